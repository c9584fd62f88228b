//! `model gc`: finds and deletes the remains of killed registrations.

use bellwether_core::time::Span;
use bellwether_registry::Registry;
use bellwether_registry::gc::Garbage;
use clap::Args;

use super::display::{show, size};
use crate::cli::table::table;
use crate::cli::{Output, tell};
use crate::clock::{Clock, SystemClock};
use crate::exit;

/// The arguments of `model gc`.
#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Minimum time since the last write; at least 1h.
    #[arg(long, value_name = "TIME", default_value = "24h")]
    older_than: Span,
    /// List the garbage and delete nothing; this is the default.
    #[arg(long, conflicts_with = "delete")]
    dry_run: bool,
    /// Delete the garbage.
    #[arg(long)]
    delete: bool,
}

pub(super) async fn gc(args: &GcArgs, registry: &Registry, output: Output) -> anyhow::Result<u8> {
    let garbage = registry.collect(args.older_than.to_std(), args.delete, SystemClock.now()).await?;
    if garbage.is_empty() && output == Output::Table {
        tell(&format!("there is no garbage older than {}\n", args.older_than));
        return Ok(exit::OK);
    }
    show(output, &garbage, |garbage| {
        let row = |garbage: &Garbage| vec![garbage.place.clone(), size(garbage.size), garbage.since.to_string()];
        let total = size(garbage.iter().map(|garbage| garbage.size).sum());
        let end =
            if args.delete { format!("deleted: {total}\n") } else { format!("{total}; delete it with --delete\n") };
        table(&["PLACE", "SIZE", "SINCE"], &garbage.iter().map(row).collect::<Vec<_>>()) + &end
    })?;
    Ok(exit::OK)
}
