use super::*;

#[test]
fn time_is_that_of_the_operation_that_comes_first() {
    let timeline = Timeline::new();
    timeline.open(1_000);
    let seats: Vec<Seat> = (0..3).map(|_| timeline.seat()).collect();
    seats.iter().for_each(|seat| timeline.enter(seat));
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (i, seat) in seats.iter().enumerate() {
            let (timeline, order) = (&timeline, &order);
            scope.spawn(move || {
                for step in 0..50u64 {
                    let at_ns = step * 30_000 + i as u64 * 10_000;
                    let horizon = timeline.park(seat, at_ns);
                    assert!(horizon > at_ns);
                    order.lock().unwrap().push((at_ns, timeline.elapsed_ns()));
                }
                timeline.leave(seat);
            });
        }
    });
    let order = order.into_inner().unwrap();
    // Operations lie further apart than the window: they come one at a time, each at its own time.
    assert!(order.is_sorted() && order.iter().all(|(at_ns, elapsed_ns)| at_ns == elapsed_ns), "{order:?}");
    timeline.wait_quiet();
    timeline.pass(5_000);
    assert_eq!(timeline.elapsed_ns(), 49 * 30_000 + 20_000 + 5_000);
}

#[test]
fn who_is_left_out_is_counted_until_he_comes_back() {
    let timeline = Timeline::new();
    timeline.open(1_000);
    let (blocked, other) = (timeline.seat(), timeline.seat());
    timeline.enter(&blocked);
    timeline.enter(&other);
    std::thread::scope(|scope| {
        let parked = scope.spawn(|| timeline.park(&other, 7_000));
        while timeline.lock().parked() == 0 {
            std::hint::spin_loop();
        }
        // As a sleeper does that finds nobody running.
        let mut state = timeline.lock();
        state.leave_out_running();
        assert_eq!(state.running, 0, "the parked one was not running");
        let woken = timeline.advance(&mut state);
        drop(state);
        wake(woken);
        assert_eq!(parked.join().unwrap(), 8_000);
    });
    timeline.leave(&other);
    assert!(!timeline.lock().is_quiet(), "one has not come back");
    timeline.leave(&blocked);
    timeline.wait_quiet();
}

#[test]
fn a_thread_that_runs_is_told_from_those_that_sleep() {
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let spinner = std::thread::spawn(move || {
        while !flag.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    // Other tests' threads run as well: only that it is never said that all sleep.
    assert!((0..100).all(|_| !sys::all_others_sleep()));
    stop.store(true, Ordering::Relaxed);
    spinner.join().unwrap();
}
