//! Reads what `malloc_info(0)` of glibc writes: an XML text with one element a heap. A pure function of its bytes.
//!
//! Lenient: some 2.43 snapshots leave elements unclosed, and the figures up to a place that cannot be read are still
//! good; without any whole heap everything is `None`.
//!
//! Source: malloc/malloc.c, `__malloc_info`, glibc 2.31 to 2.43. In every version the sizes of binned chunks are summed
//! with their flag bits, so `rest` is one byte too large for each chunk but the top; `rest` counts the top since 2.31.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// One `<heap>`: an arena, in bytes unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arena {
    /// In fastbins.
    pub fast_bytes: u64,
    /// In the other bins and the top.
    pub rest_bytes: u64,
    /// Obtained from the system.
    pub system_bytes: u64,
    /// Number of heaps of its own.
    pub segments: u64,
}

/// What the text says; empty when it holds no whole heap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MallocInfo {
    /// In the order of the text.
    pub arenas: Vec<Arena>,
    /// In chunks that were mapped by themselves.
    pub mmapped_bytes: Option<u64>,
    /// Number of those chunks.
    pub mmap_count: Option<u64>,
}

/// Chunk sizes are multiples of 16; what is left below 8 are flag bits.
fn without_flags(size: u64) -> u64 {
    size & !7
}

/// Reads the text as far as it can be read.
pub fn parse(xml: &[u8]) -> MallocInfo {
    let text = String::from_utf8_lossy(xml);
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    let mut arenas: Vec<Arena> = Vec::new();
    let mut current: Option<Arena> = None;
    let mut mmapped = None;
    let mut mmap_count = None;
    loop {
        match reader.read_event() {
            Ok(Event::Start(e) | Event::Empty(e)) => match (e.name().as_ref(), &mut current) {
                (b"heap", _) => arenas.extend(current.replace(Arena { segments: 1, ..Arena::default() })),
                (b"total", Some(arena)) => match attribute(&e, "type").as_deref() {
                    Some("fast") => arena.fast_bytes = without_flags(number(&e, "size").unwrap_or(0)),
                    Some("rest") => {
                        let flags = number(&e, "count").unwrap_or(0).saturating_sub(1);
                        arena.rest_bytes = without_flags(number(&e, "size").unwrap_or(0).saturating_sub(flags));
                    }
                    _ => {}
                },
                (b"system", Some(arena)) if attribute(&e, "type").as_deref() == Some("current") => {
                    arena.system_bytes = number(&e, "size").unwrap_or(0);
                }
                (b"aspace", Some(arena)) if attribute(&e, "type").as_deref() == Some("subheaps") => {
                    arena.segments = number(&e, "size").unwrap_or(1);
                }
                (b"total", None) if attribute(&e, "type").as_deref() == Some("mmap") => {
                    mmapped = number(&e, "size");
                    mmap_count = number(&e, "count");
                }
                _ => {}
            },
            Ok(Event::End(e)) if e.name().as_ref() == b"heap" => arenas.extend(current.take()),
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
    if arenas.is_empty() {
        return MallocInfo::default();
    }
    MallocInfo { arenas, mmapped_bytes: mmapped, mmap_count }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = element.attributes().with_checks(false).flatten().find(|a| a.key.as_ref() == name.as_bytes())?;
    Some(String::from_utf8_lossy(&attribute.value).into_owned())
}

fn number(element: &BytesStart<'_>, name: &str) -> Option<u64> {
    attribute(element, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Taken from glibc 2.36 and shortened: 99 chunks of 2016 bytes, one of 576, and a top, in the main arena.
    const TWO_ARENAS: &str = r#"<malloc version="1">
<heap nr="0">
<sizes>
  <size from="577" to="577" total="577" count="1"/>
  <size from="2017" to="2017" total="199683" count="99"/>
</sizes>
<total type="fast" count="2" size="64"/>
<total type="rest" count="101" size="332964"/>
<system type="current" size="540672"/>
<system type="max" size="540672"/>
<aspace type="total" size="540672"/>
<aspace type="mprotect" size="540672"/>
</heap>
<heap nr="1">
<sizes>
</sizes>
<total type="fast" count="0" size="0"/>
<total type="rest" count="1" size="132416"/>
<system type="current" size="135168"/>
<aspace type="total" size="135168"/>
<aspace type="subheaps" size="3"/>
</heap>
<total type="fast" count="2" size="64"/>
<total type="rest" count="102" size="465380"/>
<total type="mmap" count="1" size="1052672"/>
<system type="current" size="675840"/>
</malloc>
"#;

    #[test]
    fn arenas_are_counted_and_flag_bits_taken_off() {
        let main = Arena { fast_bytes: 64, rest_bytes: 332_864, system_bytes: 540_672, segments: 1 };
        let second = Arena { fast_bytes: 0, rest_bytes: 132_416, system_bytes: 135_168, segments: 3 };
        let whole = MallocInfo { arenas: vec![main, second], mmapped_bytes: Some(1_052_672), mmap_count: Some(1) };
        assert_eq!(parse(TWO_ARENAS.as_bytes()), whole);
    }

    #[test]
    fn unclosed_elements_and_a_cut_end_cost_no_more_than_what_they_hold() {
        let unclosed = TWO_ARENAS.replace("</sizes>", "");
        assert_eq!(parse(unclosed.as_bytes()), parse(TWO_ARENAS.as_bytes()));
        let cut = &TWO_ARENAS[..TWO_ARENAS.find("<heap nr=\"1\">").unwrap()];
        let info = parse(cut.as_bytes());
        assert_eq!((info.arenas.len(), info.mmapped_bytes), (1, None));
        assert_eq!(parse(b"<malloc version"), MallocInfo::default());
        assert_eq!(parse(b""), MallocInfo::default());
    }
}
