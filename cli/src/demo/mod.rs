//! `receptor demo`: a mesh on this machine that really runs work, and a failure it survives.

mod client;
mod mesh;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use receptor_host::tcp::free_loopback_port;
use serde_json::Value;

use client::Client;
use mesh::Mesh;

/// Payload that travels to the first worker and back: 16 MiB.
const PAYLOAD: usize = 16 << 20;

/// Lines of the unit that lives through the failure, one each 50 ms.
const LINES: u64 = 80;

const COUNT: &str = "i=1; while [ $i -le 80 ]; do echo line $i; i=$((i+1)); sleep 0.05; done";

/// Runs the demo. Success means that every step held.
pub fn run() -> ExitCode {
    let start = Instant::now();
    let mut mesh = match Mesh::new() {
        Ok(mesh) => mesh,
        Err(error) => {
            println!("demo failed: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match story(&mut mesh) {
        Ok(()) => {
            println!(
                "\nAll of it held, in {:.1} s. Nothing is left behind.",
                start.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            mesh.keep_files();
            println!(
                "\ndemo failed: {error:#}\nlogs and units are in {}",
                mesh.path().display()
            );
            ExitCode::FAILURE
        }
    }
}

fn story(mesh: &mut Mesh) -> Result<()> {
    let port = || free_loopback_port().context("find a free port");
    let (hub, hop) = (port()?, port()?);
    mesh.start("controller", Some(hub), &[], &[])?;
    mesh.start("hop", Some(hop), &[hub], &[])?;
    mesh.start("worker-1", None, &[hop], &[("echo", "exec cat")])?;
    mesh.start("worker-2", None, &[hop], &[("count", COUNT)])?;
    let took = mesh.wait_for_routes()?;
    println!("4 nodes have all routes after {} ms:\n", took.as_millis());
    let controller = mesh.socket("controller");
    print_topology(&Client::command(&controller, "status")?)?;

    println!("\nworker-1 gets {} MiB and sends them back:", PAYLOAD >> 20);
    echo(&controller)?;

    println!("\nworker-2 counts to {LINES}; the hop dies on the way:");
    count_through_failure(mesh, &controller)
}

fn print_topology(status: &Value) -> Result<()> {
    let costs = status["KnownConnectionCosts"]
        .as_object()
        .context("no KnownConnectionCosts")?;
    for (node, neighbours) in costs {
        let neighbours = neighbours.as_object().context("no neighbours")?;
        let list: Vec<String> = neighbours
            .iter()
            .map(|(name, cost)| format!("{name} (cost {cost})"))
            .collect();
        println!("  {node:<12} -- {}", list.join(", "));
    }
    let routes = status["RoutingTable"].as_object().context("no RoutingTable")?;
    let list: Vec<String> = routes
        .iter()
        .map(|(node, via)| format!("{node} via {}", via.as_str().unwrap_or("?")))
        .collect();
    println!("  routes of the controller: {}", list.join(", "));
    Ok(())
}

fn echo(controller: &Path) -> Result<()> {
    let payload: Vec<u8> = (0..PAYLOAD as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let start = Instant::now();
    let unit = Client::submit(controller, "worker-1", "echo", &payload)?;
    let output = read_results(controller, &unit, PAYLOAD as u64, |_| Ok(()))?;
    let took = start.elapsed();
    ensure!(output == payload, "the output differs from the payload");
    finish(controller, &unit)?;
    println!(
        "  unit {unit}: {} MiB out and back in {:.2} s, verified",
        PAYLOAD >> 20,
        took.as_secs_f64()
    );
    Ok(())
}

fn count_through_failure(mesh: &mut Mesh, controller: &Path) -> Result<()> {
    let expected: String = (1..=LINES).map(|i| format!("line {i}\n")).collect();
    let unit = Client::submit(controller, "worker-2", "count", b"")?;
    let third = expected.len() / 3;
    let mut killed = false;
    let output = read_results(controller, &unit, expected.len() as u64, |received| {
        if !killed && received >= third {
            killed = true;
            mesh.kill("hop")?;
            sleep(Duration::from_millis(1500));
            mesh.revive("hop")?;
        }
        Ok(())
    })?;
    ensure!(killed, "the unit ended before the hop was killed");
    ensure!(
        output == expected.as_bytes(),
        "the output differs from what the unit wrote"
    );
    finish(controller, &unit)?;
    println!("  unit {unit}: hop killed after a third, back 1.5 s later, all {LINES} lines complete and in order");
    Ok(())
}

/// Reads a unit's results with a progress bar; `on_progress` hears how many bytes have come.
fn read_results(
    controller: &Path,
    unit: &str,
    size: u64,
    mut on_progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<u8>> {
    let style = ProgressStyle::with_template("  {bar:40} {bytes:>10} of {total_bytes} {elapsed}")?;
    let bar = ProgressBar::new(size).with_style(style);
    let mut results = Client::results(controller, unit)?;
    let mut output = Vec::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        let read = results.read(&mut piece).context("read results")?;
        if read == 0 {
            break;
        }
        output.extend_from_slice(&piece[..read]);
        bar.set_position(output.len() as u64);
        on_progress(output.len())?;
    }
    bar.finish_and_clear();
    Ok(output)
}

/// Checks that the unit succeeded with all its output, and releases it.
fn finish(controller: &Path, unit: &str) -> Result<()> {
    let status = Client::command(controller, &format!("work status {unit}"))?;
    if status["StateName"] != "Succeeded" {
        bail!("unit {unit} is {}: {}", status["StateName"], status["Detail"]);
    }
    let released = Client::command(controller, &format!("work release {unit}"))?;
    ensure!(released["released"] == unit, "release answered {released}");
    Ok(())
}
