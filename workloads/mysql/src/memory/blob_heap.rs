//! The heap of a row's BLOBs: made with 16 KiB when the first one is read, a block of the BLOB's own size for each that
//! does not fit, and given up before the next row.
//!
//! Source: MariaDB storage/innobase/row/row0sel.cc, `row_sel_store_mysql_field` (`prebuilt->blob_heap`), and
//! `row_mysql_prebuilt_free_blob_heap`. Measured on 10.11.19: a BLOB of 300000 bytes takes 16512 and 300128. MySQL does
//! the same (storage/innobase/row/row0sel.cc), not measured.

use fragbench_engine::Ledger;

use super::MemHeap;

/// `srv_page_size`.
const PAGE: usize = 16 << 10;

/// The heap of one scan.
#[derive(Debug)]
pub struct BlobHeap(MemHeap);

impl Default for BlobHeap {
    fn default() -> Self {
        BlobHeap(MemHeap::new())
    }
}

impl BlobHeap {
    /// The next row is read: the BLOBs of the one before go, those of `lengths` come.
    pub fn row(&mut self, ledger: &mut Ledger, lengths: &[usize]) {
        self.0.free(ledger);
        self.0.create(ledger, PAGE);
        for length in lengths {
            self.0.alloc(ledger, *length);
        }
    }

    /// The scan has ended.
    pub fn free(&mut self, ledger: &mut Ledger) {
        self.0.free(ledger);
    }

    /// Sizes asked for.
    pub fn sizes(&self) -> Vec<usize> {
        self.0.sizes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_ledger;
    use super::*;

    #[test]
    fn a_long_blob_has_a_block_of_its_size_and_goes_with_its_row() {
        let mut ledger = test_ledger();
        let mut heap = BlobHeap::default();
        heap.row(&mut ledger, &[300_000]);
        assert_eq!(heap.sizes(), [16_512, 300_128]);
        heap.row(&mut ledger, &[1000, 20_000, 40_000]);
        assert_eq!(heap.sizes(), [16_512, 20_128, 40_128]);
        heap.free(&mut ledger);
        assert!(heap.sizes().is_empty());
    }
}
