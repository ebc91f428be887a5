//! How many arenas there were, and how many heap segments below them.

use super::Subject;
use super::bars::bar_panels;
use super::frame::title;
use super::rows::rows;
use super::scene::Scene;
use super::style::{Layout, Style};

pub(super) const CAPTION: &str = "Arenas when the work has ended, as the allocator counts them, and the heap segments below them. \
More arenas mean less waiting between threads and more places where freed memory lies unused; an arena limit must show here, or it did not take effect.";

pub(super) fn draw(subject: &Subject, layout: Layout) -> Option<Scene> {
    // Each on its own axis: segments may be a hundred times the arenas.
    let panels: Vec<_> = [[("arena_count", "arenas")], [("heap_segment_count", "heap segments")]]
        .iter()
        .filter_map(|metrics| bar_panels(&subject.cells, metrics))
        .flatten()
        .collect();
    if panels.is_empty() {
        return None;
    }
    let mut scene = Scene::new(layout.width, &format!("Arenas and heap segments, {}", subject.workload));
    let top = title(&mut scene, layout, "Arenas and heap segments", subject.workload);
    let labels: Vec<Style> = subject.cells.iter().map(|m| m.style.clone()).collect();
    scene.height = rows(&mut scene, layout, top + 6.0, &labels, &panels) + 6.0;
    Some(scene)
}
