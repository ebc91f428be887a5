//! What traces hold. One pass over a trace's events in recorded order serves any number of observers ([`observe`]):
//! statistics ([`stat()`]), the shape of a window ([`shape()`]) and how far two shapes are apart ([`distances`]), blocks never
//! freed ([`leaks()`]), and what a [`profile`] is distilled from. Memory is bounded by the live blocks and the distinct kinds
//! of blocks, not by the number of events.

mod bins;
mod curve;
mod distance;
mod leaks;
mod objects;
mod observe;
pub mod profile;
mod shape;
mod stat;

pub use distance::{distances, ks, nrmse};
pub use leaks::{LeakAge, LeakFrame, LeakSize, LeakStack, LeakThread, Leaks, Pattern, STRETCHES, leaks};
pub use observe::{Observer, observe};
pub use shape::{Gauge, shape, shape_of};
pub use stat::stat;
