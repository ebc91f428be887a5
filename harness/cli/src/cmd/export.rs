//! `fragbench export`: the figures of many processes for an existing Prometheus.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Args;
use fragbench_model::Reading;
use fragbench_watch::{Limits, Select, Server, Watched, discover, openmetrics};

use crate::{Outcome, interrupt, usage};

/// Serve heap figures of processes as OpenMetrics, for Prometheus
///
/// Processes are looked for anew at every scrape. A dashboard for Grafana (harness/watch/grafana/dashboard.json) and
/// alert rules (harness/watch/prometheus/alerts.yml) are in the source tree.
///
/// Examples: fragbench export --name mariadbd, fragbench export --cgroup mariadb.service --listen 127.0.0.1:9899
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Processes by number
    #[arg(value_name = "PID", required_unless_present_any = ["name", "cgroup"], value_parser = crate::sizes::parse_pid)]
    pids: Vec<u32>,
    /// Processes by name
    #[arg(long, value_name = "NAME")]
    name: Vec<OsString>,
    /// Processes in this cgroup or below, for instance mariadb.service
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Address to serve at; anything but a loopback address is open to the network
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9899", value_parser = parse_address)]
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
        let there = self.there_now(&select)?;
        if self.once {
            let readings = read(&select, true);
            if readings.is_empty() {
                return Err(anyhow!("none of the {there} processes may be read: run as root, or as their user"));
            }
            put!("{}", openmetrics(&readings));
            return Ok(Outcome::Success);
        }
        let server = Server::bind(self.listen, Limits::of_this_process()).map_err(|error| {
            usage(format!("{} cannot be listened at: {error}; choose another with --listen ADDRESS:PORT", self.listen))
        })?;
        if !self.listen.ip().is_loopback() {
            note!("{} is open to the network: whoever reaches it reads these figures", self.listen.ip());
        }
        note!("figures at http://{}/metrics", server.address()?);
        let mut last: Option<(Instant, String)> = None;
        let mut young = FRESH;
        let mut said = false;
        server.serve(
            interrupt::flag()?,
            || {
                if let Some((at, page)) = &last
                    && at.elapsed() < young
                {
                    return page.clone();
                }
                let begun = Instant::now();
                let page = openmetrics(&read(&select, !std::mem::replace(&mut said, true)));
                // Surveys take at most a tenth of the time, however often somebody asks.
                young = FRESH.max(begun.elapsed() * 9);
                last = Some((Instant::now(), page.clone()));
                page
            },
            |error| note!("a connection could not be accepted ({error}); going on"),
        )?;
        Ok(Outcome::Success)
    }

    /// How many of those meant are there. A number belongs to one process and never to a later one, so each has to be
    /// there; those of a name or a cgroup may come.
    fn there_now(&self, select: &Select) -> Result<usize> {
        let there = discover(Path::new("/proc"), select);
        if let Some(gone) = self.pids.iter().find(|pid| !there.contains(pid)) {
            return Err(anyhow!("no such process: {gone}; give numbers of processes that run, or --name NAME"));
        }
        if there.is_empty() {
            if self.once {
                return Err(anyhow!("no such process is there: `ps -e` lists names, `systemd-cgls` cgroups"));
            }
            note!("no such process is there yet; it is looked for at every scrape");
        }
        Ok(there.len())
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no address and port: write for instance 127.0.0.1:9899 or [::1]:9899"))
}

/// Reads all processes that are there; one that ends meanwhile is left out, as is one that may not be read, which is said
/// when asked for.
fn read(select: &Select, say_why: bool) -> Vec<Reading> {
    let pids = discover(Path::new("/proc"), select);
    let read = |pid| match Watched::open(pid).and_then(|watched| watched.read()) {
        Ok(reading) => Some(reading),
        Err(error) => {
            if say_why {
                note!("process {pid} is left out: {error}");
            }
            None
        }
    };
    pids.into_iter().filter_map(read).collect()
}
