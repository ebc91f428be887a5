//! One pass over a trace, seen by several observers.

use fragbench_trace::{Event, Events, Trace};

/// What looks at a trace's events in recorded order.
pub trait Observer {
    /// The next event.
    fn event(&mut self, event: &Event);
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    #[inline]
    fn event(&mut self, event: &Event) {
        self.0.event(event);
        self.1.event(event);
    }
}

/// Shows all events of a trace to an observer, or a pair of them; damaged blocks of the file are passed over. Answers the
/// reader at its end, which knows what was damaged and what is still live.
pub fn observe<'t>(trace: &'t Trace, observer: &mut impl Observer) -> Events<'t> {
    let mut events = trace.events_in_order();
    for event in &mut events {
        observer.event(&event);
    }
    events
}
