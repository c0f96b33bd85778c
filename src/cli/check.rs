//! `portico check`.

use super::{Failure, Screen, Variables, configuration, screen::or_dash};

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    configuration: configuration::Flags,
    /// Print the reference of all settings instead.
    #[arg(long)]
    reference: bool,
}

/// Prints every value with where it came from; secrets as `***`.
pub(crate) fn run(flags: Flags, variables: Variables, screen: &mut Screen) -> Result<(), Failure> {
    if flags.reference {
        return screen.text(&portico::config::reference());
    }
    let loaded = flags.configuration.load(variables)?;
    let rows: Vec<Vec<String>> = loaded
        .origins
        .iter()
        .map(|(setting, value, origin)| vec![setting.key.to_owned(), or_dash(value), origin.to_string()])
        .collect();
    screen.table(&["SETTING", "VALUE", "FROM"], &rows)
}
