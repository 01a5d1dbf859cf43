//! `gptoss devices`: the adapters of the machine, and what the runtime would do on each.

use std::io::Write;

use cubecl::future::block_on;

use super::{Failure, Outcome, print};
use crate::device::{AdapterReport, Compute, DeviceError, DeviceRequest, adapters};
use crate::exit::Exit;

/// Lists the adapters, as a table or as JSON.
pub(super) fn run(json: bool) -> Outcome {
    let found = block_on(adapters());
    if found.is_empty() {
        return Err(Failure::new(Exit::NoAdapter, DeviceError::NoAdapter, "install a driver, then: gptoss devices"));
    }
    let chosen = block_on(Compute::open(&DeviceRequest::default()));
    let kernels = chosen.as_ref().map(|compute| (compute.report().name.clone(), compute.family(), compute.language()));
    print(|out| {
        if json {
            let chosen = kernels.as_ref().ok().map(|(name, family, language)| {
                serde_json::json!({ "name": name, "kernels": format!("{family:?}"), "language": language })
            });
            let report = serde_json::json!({ "schema": 1, "command": "devices", "adapters": found, "chosen": chosen });
            return writeln!(out, "{report:#}");
        }
        found.iter().try_for_each(|adapter| describe(out, adapter))?;
        match &kernels {
            Ok((name, family, language)) => writeln!(out, "chosen: {name}, {family:?} kernels in {language}"),
            Err(error) => writeln!(out, "chosen: none ({error})"),
        }
    })?;
    match chosen {
        Ok(_) => Ok(Exit::Ok),
        Err(error) => Err(Failure::new(Exit::NoAdapter, error, "install a driver, then: gptoss devices")),
    }
}

fn describe(out: &mut dyn Write, a: &AdapterReport) -> std::io::Result<()> {
    writeln!(out, "{} ({}, {}; {})", a.name, a.kind, a.api, a.driver)?;
    writeln!(
        out,
        "  largest binding {} MiB, buffer {} MiB; {} bindings, {} KiB workgroup memory, {} units",
        a.binding_bytes_max >> 20,
        a.buffer_bytes_max >> 20,
        a.bindings_max,
        a.workgroup_bytes_max >> 10,
        a.units_max
    )?;
    let (small, large) = a.subgroup_sizes;
    let features = if a.features.is_empty() { "none".to_string() } else { a.features.join(", ") };
    writeln!(out, "  subgroups of {small} to {large}; features: {features}")?;
    match &a.unusable {
        Some(reason) => writeln!(out, "  not usable: {reason}"),
        None => Ok(()),
    }
}
