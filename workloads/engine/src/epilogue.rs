//! The course of a run as the worker drives it: introduction, the work, then what is measured after it. The epilogue is
//! the same for all workloads: quiet, a purge, and, where there is work to go on with, work again and a purge beside work.

use std::time::Duration;

use fragbench_model::WorkerErrorKind;
use fragbench_model::{Done, Hello, HugePages, Message, Pace, RunSpec, SCHEMA};

use crate::{Context, Settings, Workload, clock, fail, link, monitor, offheap, probe, refuse, sys, timeline};

/// Word chosen for the whole system.
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Switches off what `pages` does not grant. As a server does: in `main`, after the allocator has begun.
fn keep_to_huge_pages(pages: HugePages) {
    let everywhere = || std::fs::read_to_string(ENABLED).is_ok_and(|text| text.contains("[always]"));
    let (done, since) = match pages {
        HugePages::Off => (sys::forbid_huge_pages(false), "3.15"),
        HugePages::Madvise if everywhere() => (sys::forbid_huge_pages(true), "6.18"),
        HugePages::Madvise | HugePages::On => return,
    };
    if !done {
        let pages = pages.name();
        let text =
            format!("the kernel refuses PR_SET_THP_DISABLE for huge pages `{pages}`; Linux {since} or later is needed");
        fail(refuse(WorkerErrorKind::Internal, text));
    }
}

/// Runs `workload` as `spec` says, speaking to the parent over standard input and output.
pub fn serve(spec: &RunSpec, workload: &mut dyn Workload) {
    timeline::belongs_to_harness();
    timeline::prepare();
    sys::die_with_parent();
    sys::name_process();
    keep_to_huge_pages(spec.driver.thp);
    let probe = probe::Probe::find();
    let mut ctx = Context::new(Settings::from(spec), probe);
    link::send(&Message::Hello(Hello {
        schema: SCHEMA,
        pid: std::process::id(),
        allocator: ctx.probe.answer(),
        libc: probe::libc_answer(),
        harness_vm_bytes: offheap::vm_bytes(),
        timer_ns: clock::cost_ns(),
        threads: workload.threads(),
    }));
    ctx.wait();
    workload.run(&mut ctx);
    ctx.fact("clock_read", f64::from(u8::from(timeline().was_read())));
    let totals = ctx.spawner().totals();
    let mut done = Done {
        ops: totals.sums.ops,
        live_end_bytes: u64::try_from(totals.sums.live_bytes).unwrap_or_else(|_| {
            fail(refuse(WorkerErrorKind::Internal, format!("live bytes are negative: {}", totals.sums.live_bytes)))
        }),
        checksum: totals.checksum,
        adaptive: workload.adaptive(),
        work_ns: ctx.work_ns,
        threads_started: u64::from(ctx.spawner().started()),
        harness_vm_bytes: offheap::vm_bytes(),
        latency: totals.latency,
        facts: std::mem::take(&mut ctx.facts),
    };
    if spec.driver.epilogue {
        let quiet = Duration::from_millis(spec.idle_ms);
        if !matches!(spec.workload.pace(), Some(Pace::Recorded { .. })) {
            // Quiet takes no time of the machine's, whatever clock the work went by.
            timeline().begin_virtual();
        }
        ctx.phase("idle", |_| timeline().pass_or_sleep(quiet.as_nanos() as u64));
        if spec.driver.monitor_calls > 0 {
            ctx.phase("polled", |ctx| monitor::watch(ctx.spawner(), quiet, spec.driver.monitor_calls));
        }
        if workload.resumes() {
            ctx.phase("resume", |ctx| workload.resume(ctx));
        }
        done.harness_vm_bytes = offheap::vm_bytes();
    }
    link::send(&Message::Done(done));
}
