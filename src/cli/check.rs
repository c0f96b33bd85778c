//! `portico check`.

use portico::{
    base::health::State,
    config::{Config, Problems},
    gateway::check,
};

use super::{Failure, Screen, Variables, configuration, screen::or_dash};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    configuration: configuration::Flags,
    /// Connect to PostgreSQL, S3 and Valkey as well, try the folders, and say how each is. Nothing in them is changed.
    #[arg(long)]
    connect: bool,
    /// Print the reference of all settings instead.
    #[arg(long)]
    reference: bool,
}

/// Prints every value with where it came from; secrets as `***`.
pub(crate) async fn run(flags: Flags, variables: Variables, screen: &mut Screen) -> Result<(), Failure> {
    if flags.reference {
        return screen.text(&portico::config::reference());
    }
    let loaded = flags.configuration.load(variables)?;
    let problems = check::problems(&loaded);
    if !problems.is_empty() {
        return Err(Failure::Configuration(Problems(problems)));
    }
    let rows: Vec<Vec<String>> = loaded
        .origins
        .iter()
        .map(|(setting, value, origin)| vec![setting.key.to_owned(), or_dash(value), origin.to_string()])
        .collect();
    screen.table(&["SETTING", "VALUE", "FROM"], &rows)?;
    if flags.connect { connect(&loaded.config, screen).await } else { Ok(()) }
}

async fn connect(config: &Config, screen: &mut Screen) -> Result<(), Failure> {
    let found = check::connect(config).await;
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|(setting, health)| {
            let state = if health.state == State::Down { "out of reach" } else { "within reach" };
            vec![(*setting).to_owned(), state.to_owned(), or_dash(health.note.as_deref().unwrap_or_default())]
        })
        .collect();
    screen.line("")?;
    screen.table(&["STORE", "STATE", "NOTE"], &rows)?;
    match found.iter().filter(|(_, health)| health.state == State::Down).count() {
        0 => Ok(()),
        1 => Err(Failure::other("one store is out of reach")),
        count => Err(Failure::other(format!("{count} stores are out of reach"))),
    }
}
