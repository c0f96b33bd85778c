//! `portico migrate`.

use std::io::Write;

use portico::{
    config::{Config, Sources},
    gateway::migration::Migration,
};

use super::{Failure, Screen, Variables};

/// From where to where.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The installation to move: a configuration file, or the URLs of its records and blobs with a comma between.
    #[arg(long, value_name = "FILE|URL,URL")]
    from: String,
    /// Where it goes, written likewise.
    #[arg(long, value_name = "FILE|URL,URL")]
    to: String,
    /// Let the target's records give way to the source's, and its bundles where the source has others under the same keys;
    /// its other bundles stay. Cut off, it leaves the target with some of both until it is run again. Without this, a
    /// target that holds anything else is refused.
    #[arg(long)]
    replace: bool,
}

/// Variables that mean the same on both sides. Others could not say which side they mean.
const OF_BOTH_SIDES: [&str; 3] = ["PORTICO_S3_", "AWS_REGION", "AWS_ENDPOINT_URL"];

/// How many steps pass between two lines of progress.
const STEPS_TOLD: u64 = 25;

/// Moves everything, tells how far it is, and says how the sealing key goes along.
pub(crate) async fn run(flags: Flags, variables: Variables, screen: &mut Screen) -> Result<(), Failure> {
    let of_both_sides = |name: &str| OF_BOTH_SIDES.iter().any(|known| name.starts_with(known));
    let variables: Variables =
        variables.into_iter().filter(|(name, _)| name.to_str().is_some_and(of_both_sides)).collect();
    let from = side("--from", &flags.from, &variables)?;
    let to = side("--to", &flags.to, &variables)?;
    let failed = |error: portico::base::Error| {
        Failure::other(format!("the source is unchanged; run it again when this is mended: {}", error.report()))
    };
    let migration = Migration::open(&from, &to, flags.replace).await.map_err(failed)?;
    let mut steps = 0_u64;
    let moved = migration
        .run(|moved| {
            steps += 1;
            if steps.is_multiple_of(STEPS_TOLD) {
                let (blobs, records) = (moved.blobs + moved.blobs_there, moved.records + moved.records_there);
                // Progress for people; standard output is for the result.
                let _told = writeln!(std::io::stderr().lock(), "{blobs} blobs, {records} records so far").is_ok();
            }
        })
        .await;
    migration.close().await;
    let moved = moved.map_err(failed)?;
    screen.line(format_args!("records  {} moved, {} were there", moved.records, moved.records_there))?;
    screen.line(format_args!(
        "blobs    {} moved ({} bytes), {} were there",
        moved.blobs, moved.blob_bytes, moved.blobs_there
    ))?;
    screen.line("verified by count and digest")?;
    let key = from.data.join("secrets.key");
    if from.secrets_key.is_none() && key.exists() {
        screen.line(format_args!(
            "\nThe secrets are sealed with the key in {}. Start the gateways of the target with it:\n\n  \
             export PORTICO_SECRETS_KEY=$(grep -v '^#' {} | head -n 1)",
            key.display(),
            key.display()
        ))?;
    }
    Ok(())
}

fn side(flag: &'static str, text: &str, variables: &Variables) -> Result<Config, Failure> {
    let mut sources = Sources::new().environment(variables.iter().cloned());
    if std::path::Path::new(text).is_file() {
        sources = sources.file(text);
    } else {
        let Some((records, blobs)) = text.split_once(',') else {
            return Err(Failure::usage(format!("{flag}: name a configuration file, or the URLs of records and blobs")));
        };
        sources = sources.set(flag, "records", records).set(flag, "blobs", blobs);
    }
    sources.load().map(|loaded| loaded.config).map_err(Failure::Configuration)
}
