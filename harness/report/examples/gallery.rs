//! Renders a made-up result into the directory given, to be looked at: `gallery DIR`, or `gallery DIR odd` for long
//! names, a setting more than there are styles, one run a cell and figures of very different size.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "gallery".into()));
    let mut data = fixture::result();
    if std::env::args().nth(2).as_deref() == Some("odd") {
        make_odd(&mut data);
    }
    let mut files = fragbench_report::render(&data)?;
    files.extend(fragbench_report::render_trace(&fixture::trace_stat(), "mariadb-oltp")?);
    for (path, bytes) in files {
        let path = out.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(&out))?;
        std::fs::write(path, bytes)?;
    }
    println!("{}", fragbench_report::result_tables(&data.summary, &data.manifest.plan, &data.records, None, false));
    println!("{}", fragbench_report::finding(&data.summary));
    Ok(())
}

fn make_odd(data: &mut fragbench_report::ResultData) {
    let rename = |name: &mut String, settings: &mut fragbench_model::Settings| {
        match name.as_str() {
            "jemalloc" => *name = "my-own-allocator-with-a-name-nobody-can-fit".into(),
            "mimalloc" => {
                *name = "glibc".into();
                settings.insert("glibc.malloc.mmap_threshold".into(), "131072".into());
                settings.insert("glibc.malloc.tcache_count".into(), "0".into());
            }
            _ => {}
        };
    };
    for cell in &mut data.manifest.plan.cells {
        rename(&mut cell.allocator.name, &mut cell.allocator.settings);
    }
    for (i, record) in data.records.iter_mut().enumerate() {
        rename(&mut record.allocator, &mut record.settings);
        if i % 8 == 5 {
            record.metrics.values_mut().for_each(|v| *v *= 300.0);
        }
        for phase in &mut record.phases {
            phase.name = format!("{} with a long name", phase.name);
        }
    }
    data.records.retain(|r| r.repetition == 0);
    data.summary = fragbench_decide::summarize(&data.manifest.plan, &data.records, true, data.manifest.relevant);
}
