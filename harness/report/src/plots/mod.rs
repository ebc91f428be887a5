//! The plots of a result, each a pure function from data to a [`Scene`] that is drawn to SVG and PNG alike.

mod arenas;
mod axis;
mod bars;
mod frame;
mod heap;
mod latency;
mod profile;
mod purge;
mod recording;
mod rows;
mod scatter;
mod scene;
mod style;
mod timeline;
mod trace;
mod tune;
mod virt;

use fragbench_decide::{CellRuns, NULL, cell_runs};
use fragbench_model::{Interval, RunRecord};

pub use heap::heap_plot;
pub(crate) use recording::recording_plots;
pub use scene::Scene;
pub use style::{Layout, Styles};
pub use trace::trace_plots;
pub use tune::tuning_plot;

use crate::ResultData;
use crate::samples::SampleFiles;

/// What a plot of one workload draws from.
pub(crate) struct Subject<'a> {
    pub(crate) workload: &'a str,
    /// Cells of the workload in the plan's order, the A/A copy left out.
    pub(crate) cells: Vec<Measured<'a>>,
    pub(crate) files: &'a SampleFiles,
    /// What the recorded servers held, where the workload is recorded and its traces say so.
    pub(crate) recordings: Vec<&'a fragbench_model::RecordingFact>,
}

/// A cell's runs with its medians.
pub(crate) struct Measured<'a> {
    pub(crate) runs: CellRuns<'a>,
    pub(crate) style: style::Style,
    medians: Option<&'a std::collections::BTreeMap<String, Interval>>,
}

impl Measured<'_> {
    pub(crate) fn median(&self, metric: &str) -> Option<Interval> {
        self.medians?.get(metric).copied()
    }

    pub(crate) fn is_null(&self) -> bool {
        self.runs.cell.allocator.name == NULL
    }
}

/// A finished plot with what to look for in it.
pub struct Plot {
    /// Short name, the middle of its file's name.
    pub name: &'static str,
    /// What it shows and what to look for.
    pub caption: String,
    /// On a desktop page and in files.
    pub wide: Scene,
    /// On a telephone.
    pub narrow: Scene,
}

/// All plots of a workload that have something to show.
pub(crate) fn workload_plots(data: &ResultData, styles: &Styles, workload: &str) -> Vec<Plot> {
    let medians = |r: &CellRuns| {
        data.summary
            .cells
            .iter()
            .find(|c| {
                c.workload == workload
                    && c.allocator == r.cell.allocator.name
                    && c.settings == r.cell.allocator.settings
            })
            .map(|c| &c.metrics)
    };
    let cells = cell_runs(&data.manifest.plan, &data.records)
        .into_iter()
        .filter(|c| !c.cell.aa && c.cell.workload.name() == workload)
        .map(|runs| Measured {
            medians: medians(&runs),
            style: styles.of(&runs.cell.allocator.name, &runs.cell.allocator.settings),
            runs,
        })
        .collect();
    let recordings = data.manifest.recordings.iter().filter(|fact| fact.workload == workload).collect();
    let subject = Subject { workload, cells, files: &data.samples, recordings };
    type Draw = fn(&Subject, Layout) -> Option<Scene>;
    let list: [(&'static str, Draw, &str); 7] = [
        ("memory-over-time", timeline::draw, timeline::CAPTION),
        ("rss-and-virt", virt::draw, virt::CAPTION),
        ("rss", bars::draw, bars::CAPTION),
        ("rss-against-throughput", scatter::draw, scatter::CAPTION),
        ("arenas", arenas::draw, arenas::CAPTION),
        ("purge", purge::draw, purge::CAPTION),
        ("latency", latency::draw, latency::CAPTION),
    ];
    list.into_iter()
        .filter_map(|(name, draw, caption)| {
            let wide = draw(&subject, Layout::WIDE)?;
            let narrow = draw(&subject, Layout::NARROW)?;
            Some(Plot { name, caption: caption.to_owned(), wide, narrow })
        })
        .chain(data.manifest.profiles.iter().filter(|f| f.workload == workload).flat_map(profile::profile_plots))
        .collect()
}

/// Value of a metric in each run that has it.
pub(crate) fn dots(runs: &[&RunRecord], metric: &str) -> Vec<f64> {
    runs.iter().filter_map(|r| r.metrics.get(metric).copied()).collect()
}
