//! Reads the table of waits.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt32Type};
use parquet::errors::ParquetError;

use crate::model::wait::{Cause, IDLE_DISTANCES, WaitPart, WaitRow};
use crate::tables::reader::{Table, numbers, values};

const COLUMNS: [&str; 9] =
    ["ts_ns", "tid", "wait_ns", "open", "cause", "ns", "cpu", "idle_distance", "blamed_tid"];

/// Calls `each` for every row of the table in `dir`, in its order.
pub(crate) fn each(dir: &Path, mut each: impl FnMut(&WaitRow)) -> Result<(), ParquetError> {
    for batch in Table::open(dir, "waits")?.batches(&COLUMNS)? {
        rows(&batch?, &mut each)?;
    }
    Ok(())
}

fn distance(name: &str) -> Option<u8> {
    IDLE_DISTANCES.iter().position(|d| *d == name).map(|i| i as u8)
}

fn rows(batch: &RecordBatch, each: &mut impl FnMut(&WaitRow)) -> Result<(), ParquetError> {
    let i64s = |name| numbers::<Int64Type>(batch, name);
    let u32s = |name| numbers::<UInt32Type>(batch, name);
    let (ts, wait, ns) = (i64s("ts_ns")?, i64s("wait_ns")?, i64s("ns")?);
    let (tid, cpu, blamed) = (u32s("tid")?, u32s("cpu")?, u32s("blamed_tid")?);
    let (cause, distance) =
        (values(batch, "cause", Cause::named)?, values(batch, "idle_distance", distance)?);
    let open = batch.column_by_name("open").and_then(|c| c.as_boolean_opt());
    let open = open.ok_or_else(|| ParquetError::General("the column open is missing".into()))?;
    for i in 0..batch.num_rows() {
        let part = WaitPart {
            cause: cause[i].unwrap_or(Cause::Unknown),
            distance: distance[i],
            ns: ns.value(i).unsigned_abs(),
            cpu: cpu.is_valid(i).then(|| cpu.value(i) as u16),
            blamed: blamed.is_valid(i).then(|| blamed.value(i)),
        };
        each(&WaitRow {
            ts_ns: ts.value(i).unsigned_abs(),
            wait_ns: wait.value(i).unsigned_abs(),
            open: open.value(i),
            tid: tid.value(i),
            part,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run_columns::RunColumns;
    use crate::model::task_names::TaskNames;
    use crate::tables::waits::WaitTable;

    #[test]
    fn what_was_written_is_read() {
        let part = |cause, distance, cpu, blamed| WaitPart { cause, distance, ns: 5, cpu, blamed };
        let row = |ts_ns, open, part| WaitRow { ts_ns, wait_ns: 9, open, tid: 3, part };
        let mut all: Vec<WaitRow> = (0..)
            .zip(Cause::ALL)
            .map(|(i, cause)| row(100 - i, false, part(cause, None, Some(2), Some(7))))
            .collect();
        all.extend((0..5).map(|d| row(50 - u64::from(d), true, part(Cause::IdleCpu, Some(d), None, None))));
        let dir = tempfile::tempdir().unwrap();
        let (run, names) = (RunColumns::example("1n1l1c1t"), TaskNames::default());
        let mut table = WaitTable::create(dir.path(), &run, &names).unwrap();
        all.iter().for_each(|row| table.push(*row).unwrap());
        table.finish().unwrap();
        let mut found = Vec::new();
        each(dir.path(), |row| found.push(*row)).unwrap();
        found.reverse();
        assert_eq!(found, all);
    }
}
