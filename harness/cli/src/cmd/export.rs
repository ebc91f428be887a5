//! `fragbench export`: the figures of many processes for an existing Prometheus.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use fragbench_model::Reading;
use fragbench_watch::{Select, Watched, discover, openmetrics, respond};

use crate::{Outcome, interrupt, usage};

/// Serve heap figures of processes as OpenMetrics, for Prometheus
///
/// Processes are looked for anew at every scrape. A dashboard for Grafana and alert rules are in the source tree, in
/// harness/watch.
///
/// Examples: fragbench export --name mariadbd, fragbench export --cgroup mariadb.service --listen 127.0.0.1:9899
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Processes by number
    #[arg(value_name = "PID", required_unless_present_any = ["name", "cgroup"])]
    pids: Vec<u32>,
    /// Processes by name
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Processes in this cgroup or below, for instance mariadb.service
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Address to serve at; anything but a loopback address is open to the network
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9899")]
    listen: SocketAddr,
    /// Print the figures once and end, for instance for the node exporter's textfile collector
    #[arg(long)]
    once: bool,
}

/// Readings younger than this are given again: many scrapers cost no more than one.
const FRESH: Duration = Duration::from_secs(1);

impl Export {
    pub(crate) fn go(&self) -> Result<Outcome> {
        let select = Select { pids: self.pids.clone(), names: self.name.clone(), cgroups: self.cgroup.clone() };
        if self.once {
            let readings = read(&select);
            if readings.is_empty() {
                return Err(anyhow!("no such process is there, or none may be read"));
            }
            put!("{}", openmetrics(&readings));
            return Ok(Outcome::Success);
        }
        let server = tiny_http::Server::http(self.listen)
            .map_err(|error| usage(format!("{} cannot be listened at: {error}", self.listen)))?;
        eprintln!("figures at http://{}/metrics", server.server_addr());
        let flag = interrupt::flag()?;
        let mut last: Option<(Instant, Vec<Reading>)> = None;
        while !flag.load(Ordering::Acquire) {
            let Some(request) = server.recv_timeout(Duration::from_millis(200))? else { continue };
            // A scraper that has gone away is no reason to end.
            let _ = respond(request, || {
                // Surveys take at most a tenth of the time, however often somebody asks.
                let young = |at: &Instant, readings: &[Reading]| {
                    let took: f64 = readings.iter().map(|reading| reading.survey_ms / 1e3).sum();
                    at.elapsed() < FRESH.max(Duration::from_secs_f64(took * 9.0))
                };
                if !last.as_ref().is_some_and(|(at, readings)| young(at, readings)) {
                    let readings = read(&select);
                    last = Some((Instant::now(), readings));
                }
                last.as_ref().map(|(_, readings)| readings.clone()).unwrap_or_default()
            });
        }
        Ok(Outcome::Success)
    }
}

/// Reads all processes that are there; one that ends meanwhile is left out.
fn read(select: &Select) -> Vec<Reading> {
    let pids = discover(Path::new("/proc"), select);
    pids.into_iter().filter_map(|pid| Watched::open(pid).and_then(|watched| watched.read()).ok()).collect()
}
