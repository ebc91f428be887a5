//! Plain data that both sides of the harness share: what is to be run, what the worker says, what was
//! sampled, what is kept. Data and its (de)serialisation only; it refuses I/O, clocks and policy.
//!
//! Sizes are bytes, times nanoseconds unless a field's name says otherwise. A value that could not be had
//! is `None`, never zero.

mod allocator;
mod badcase;
mod command;
mod counters;
mod diff;
mod heap;
mod huge_pages;
mod inspection;
mod manifest;
mod message;
mod metric;
mod plan;
mod printable;
mod profile;
mod reading;
mod record;
mod remedy;
mod sample;
mod shape;
mod shard;
mod spec;
mod summary;
mod trace_stat;
mod tuning;
mod verdict;

pub use allocator::{Allocator, AllocatorAnswer, AllocatorKind, Libc, LibcAnswer, PRELOAD, Settings, label};
pub use badcase::{
    ACTION_PARAMETER, Bound, CASE_FAMILY, CaseFact, CaseOutcome, CaseReport, CaseStatus, Check, Description, Effect,
    Expectation, ExpectedEffect, FigureFact, Figures, Judged, Quantity, RemedyOutcome, SIGNS, Sign, Symptom,
};
pub use command::{CommandSpec, ProcessFact, Ready, ServerSpec, UserMetric};
pub use counters::{COUNTERS_FD, COUNTERS_MAGIC, CounterPage, CounterSums, MAX_THREAD_COUNTERS, ThreadCounters};
pub use diff::{CellDiff, CellName, Change, ConditionDiff, Diff, DiffOutcome, FigureDiff};
pub use fragbench_glibc::{GlibcRange, GlibcVersion, glibc};
pub use heap::{HeapBytes, HeapCell, HeapMap, HeapPin, HeapRow, HeapStage, HeapTrim, Kept, PinKind};
pub use huge_pages::{HugePages, HugePagesFact, HugePagesSource};
pub use inspection::{
    ArenaFigures, HeapGrowth, HeapRemedy, HeapRemedyKind, HeapSettings, HeapVerdict, HeapVerdictKind, Inspection,
    MallocFact, MappingClass, MappingKind, PinGroup, ProcessLimits, Retained, SizeClass, Spread, StretchKind,
    SurveyCost, WaterfallStep,
};
pub use manifest::{AaSpread, Host, LibraryFact, Manifest, ProfileFact, RecordingFact, ResultKind, SearchState};
pub use message::{
    AllocatorStats, Command, Done, Hello, LatencySummary, Message, Percentiles, Purge, SERVER_CPU_S, SERVER_SPAN_S,
    WorkerError, WorkerErrorKind,
};
pub use metric::{Better, COMMAND_HOW, METRICS, Metric, Unit, how_of_command, metric};
pub use plan::{Cell, Plan, PlannedRun};
pub use printable::{printable, printable_lines, text_of};
pub use profile::{Blocks, Columns, Growth, Life, PROFILE_VERSION, Profile, Role, ShapeRows, Wave};
pub use reading::{ArenaReading, Event, Reading, Trend, TrendKind};
pub use record::{Caution, CautionKind, Failure, FailureKind, MachineLoad, PhaseRecord, RunRecord, RunStatus};
pub use remedy::{REMEDIES, Remedy, remedy};
pub use sample::{Sample, Snapshot};
pub use shape::{Distances, SLICES, Shape};
pub use shard::{Machine, Part, Shard};
pub use spec::{Common, Driver, Pace, Parameter, RunSpec, Touch, WorkloadFact, WorkloadSpec, stem};
pub use summary::{CellSummary, Comparison, Contrast, DEFAULT_RELEVANT, Interval, Standing, Summary};
pub use trace_stat::{Histogram, HistogramBin, LiveCurve, TraceStat};
pub use tuning::{Recommendation, Trimming, TunePoint, Tuning};
pub use verdict::{
    Alternative, Bars, Confidence, Doubt, Effects, Price, Reason, Risk, Tried, Verdict, VerdictKind, Weighing,
};

/// Version of every serialised form in this crate: run specifications, messages, records and summaries.
/// Raised when the meaning of a field changes; readers refuse a newer one.
pub const SCHEMA: u32 = 1;
