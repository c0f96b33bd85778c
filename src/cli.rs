//! The command line.
//!
//! A newcomer's usual mistake is to give a command a way of its own into the house. `serve` starts it; the client
//! commands are clients like any other and speak Connect to a running gateway.
//!
//! *Knows:* commands, flags, exit codes. *Does not know:* what the gateway does with a call.

mod check;
mod client;
mod configuration;
mod coordinator;
mod deploy;
mod failure;
mod instance;
mod keys;
mod log;
mod migrate;
mod openapi;
mod reload;
mod routes;
mod screen;
mod serve;
mod signals;
mod span;
mod watched;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{client::Client, failure::Failure, screen::Screen};

/// The variables of the process, read once in `main`.
type Variables = Vec<(OsString, OsString)>;

/// One front door for AI-agent platforms.
#[derive(Parser)]
#[command(name = "portico", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a gateway.
    Serve(configuration::Flags),
    /// Start a host that runs instances for gateways on other machines.
    Coordinator(configuration::Flags),
    /// Validate a configuration: print every value, or every problem with its line, cause and fix.
    Check(check::Flags),
    /// Move an installation onto other stores, or back. Stop its gateways first; run it again if it was cut off.
    Migrate(migrate::Flags),
    /// Create, list and revoke API keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Upload an agent bundle.
    Deploy(deploy::Flags),
    /// Create, watch, talk to and stop instances.
    #[command(subcommand)]
    Instance(instance::Command),
    /// Print every method with its doors, its access rule and its routes.
    Routes(routes::Flags),
    /// Print the OpenAPI document.
    Openapi,
    /// Print the version.
    Version,
}

/// Where a gateway is when nobody says.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// How to reach a running gateway.
#[derive(clap::Args)]
struct Target {
    /// The gateway [default: PORTICO_URL, else http://127.0.0.1:8080]. The key comes from PORTICO_KEY.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Print JSON for programs.
    #[arg(long, global = true)]
    json: bool,
}

impl Target {
    fn client(&self, variables: &Variables) -> Result<Client, Failure> {
        let url = match &self.url {
            Some(url) => url.clone(),
            None => variable(variables, "PORTICO_URL")?.unwrap_or_else(|| DEFAULT_URL.to_owned()),
        };
        Client::new(&url, variable(variables, "PORTICO_KEY")?)
    }
}

/// Runs one command.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>, variables: Variables) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" with exit code 0. A closed terminal leaves nobody to tell.
            let _printed = error.print().is_ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut screen = Screen::standard();
    let result = dispatch(arguments.command, &variables, &mut screen).and_then(|()| screen.flush());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(command: Command, variables: &Variables, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        Command::Serve(flags) => threads()?.block_on(serve::run(flags, variables.clone(), screen)),
        Command::Coordinator(flags) => threads()?.block_on(coordinator::run(flags, variables.clone(), screen)),
        Command::Check(flags) => one_thread()?.block_on(check::run(flags, variables.clone(), screen)),
        Command::Migrate(flags) => threads()?.block_on(migrate::run(flags, variables.clone(), screen)),
        Command::Keys(command) => one_thread()?.block_on(keys::run(command, variables, screen)),
        Command::Deploy(flags) => one_thread()?.block_on(deploy::run(flags, variables, screen)),
        Command::Instance(command) => one_thread()?.block_on(instance::run(command, variables, screen)),
        Command::Routes(flags) => routes::run(&flags, screen),
        Command::Openapi => openapi::run(screen),
        Command::Version => screen.line(format_args!("portico {}", env!("CARGO_PKG_VERSION"))),
    }
}

fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("no threads", &error))
}

fn one_thread() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("no event loop", &error))
}

/// The value of a variable, if it is set to something.
fn variable(variables: &Variables, name: &str) -> Result<Option<String>, Failure> {
    let Some((_, value)) = variables.iter().find(|(known, value)| known == name && !value.is_empty()) else {
        return Ok(None);
    };
    match value.to_str() {
        Some(value) => Ok(Some(value.to_owned())),
        None => Err(Failure::usage(format!("the environment variable {name} is not UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
