//! Writing the table of slices: in blocks of rows that follow one another in time, in each block one CPU after the other. A block is
//! a row group, and as much as is in memory at once.

use std::collections::BTreeMap;
use std::path::Path;

use ktstr_wire::record::SliceRecord;
use parquet::errors::ParquetError;

use crate::columns::{Columns, NO_NUMBER, NONE, ROW_GROUP_ROWS, TableWriter};
use crate::convert::TableFile;
use crate::host::Stolen;
use crate::rules::{Ends, NOT_SEEN};

/// Names by [`ktstr_wire::record::WaitKind`].
pub(crate) const WAIT_KINDS: [&str; 5] = ["unknown", "wakeup", "new", "preempt", "yield"];

/// Names by [`ktstr_wire::record::EndState`], which begins with 1.
pub(crate) const END_STATES: [&str; 5] = ["blocked", "preempted", "yielded", "exited", "window_end"];

/// Names by [`ktstr_wire::record::Placement`], which begins with 1.
pub(crate) const PLACEMENTS: [&str; 3] = ["direct", "queued", "held"];

/// The table.
pub(crate) struct SliceTable<'a> {
    writer: TableWriter,
    stolen: Option<&'a Stolen>,
    cpus: BTreeMap<u16, Rows>,
    rows: usize,
    ends: Ends,
}

impl<'a> SliceTable<'a> {
    /// Begins the table in `dir`. `stolen` is what the host took, where that is known.
    pub fn create(dir: &Path, stolen: Option<&'a Stolen>) -> Result<SliceTable<'a>, ParquetError> {
        let mut writer = TableWriter::create(dir, "slices")?;
        writer.write(Rows::default().columns(0))?;
        Ok(SliceTable { writer, stolen, cpus: BTreeMap::new(), rows: 0, ends: Ends::default() })
    }

    /// Adds the next slice in the order of [`crate::raw::in_order`].
    pub fn push(&mut self, s: &SliceRecord) -> Result<(), ParquetError> {
        let time = s.ts_ns..s.ts_ns.saturating_add(s.dur_ns);
        let stolen = self.stolen.map(|stolen| stolen.within(s.cpu.into(), time));
        self.cpus.entry(s.cpu).or_default().push(s, self.ends.blocked_ns(s), stolen);
        self.ends.note(s);
        self.rows += 1;
        if self.rows == ROW_GROUP_ROWS { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), ParquetError> {
        for (cpu, rows) in &mut self.cpus {
            self.writer.write(std::mem::take(rows).columns(*cpu))?;
        }
        self.cpus.clear();
        self.rows = 0;
        self.writer.end_group()
    }

    /// Ends the table.
    pub fn finish(mut self) -> Result<TableFile, ParquetError> {
        self.end_block()?;
        self.writer.finish()
    }
}

/// Rows of one CPU by column, with [`NONE`] and [`NO_NUMBER`] for null.
#[derive(Default)]
struct Rows {
    ts: Vec<i64>,
    own_end: Vec<i64>,
    tid: Vec<u32>,
    wait_kind: Vec<u8>,
    wait: Vec<i64>,
    run_delay: Vec<i64>,
    waking: Vec<i64>,
    own_blocked: Vec<i64>,
    end_state: Vec<u8>,
    prev_cpu: Vec<u32>,
    waker_tid: Vec<u32>,
    waker_cpu: Vec<u32>,
    prio: Vec<i64>,
    placement: Vec<Option<u8>>,
    rq_length: Vec<u32>,
    dsq_length: Vec<u32>,
    stolen: Vec<i64>,
}

/// A time, or a duration. None is above 2^63.
fn ns(v: Option<u64>) -> i64 {
    v.map_or(NONE, |v| v as i64)
}

fn number<T: Into<u32>>(v: Option<T>) -> u32 {
    v.map_or(NO_NUMBER, Into::into)
}

impl Rows {
    /// Adds a slice; `blocked_ns` is what the slices before tell, `stolen_ns` what the host does.
    fn push(&mut self, s: &SliceRecord, blocked_ns: Option<u64>, stolen_ns: Option<u64>) {
        let ts = s.ts_ns as i64;
        if let Some(end) = self.own_end.last_mut().filter(|end| **end == ts) {
            *end = NONE;
        }
        let own_blocked = match s.blocked_ns {
            own if own == blocked_ns => NONE,
            own => own.map_or(NOT_SEEN, |ns| ns as i64),
        };
        self.ts.push(ts);
        self.own_end.push(ts.wrapping_add(s.dur_ns as i64));
        self.tid.push(s.tid);
        self.wait_kind.push(s.wait_kind as u8);
        self.wait.push(ns(s.wait_ns));
        self.run_delay.push(ns(s.run_delay_ns));
        self.waking.push(ns(s.waking_ns));
        self.own_blocked.push(own_blocked);
        self.end_state.push(s.end_state as u8 - 1);
        self.prev_cpu.push(number(s.prev_cpu));
        self.waker_tid.push(number(s.waker_tid));
        self.waker_cpu.push(number(s.waker_cpu));
        self.prio.push(s.prio.into());
        self.placement.push(s.placement.map(|p| p as u8 - 1));
        self.rq_length.push(number(s.rq_length));
        self.dsq_length.push(number(s.dsq_length));
        self.stolen.push(ns(stolen_ns));
    }

    fn columns(self, cpu: u16) -> Columns {
        let cpus = vec![u32::from(cpu); self.ts.len()];
        Columns::new()
            .i64_all("ts_ns", self.ts)
            .i64_some("own_end_ns", self.own_end)
            .u32_all("cpu", cpus)
            .u32_all("tid", self.tid)
            .names("wait_kind", &WAIT_KINDS, self.wait_kind)
            .i64_some("wait_ns", self.wait)
            .i64_some("run_delay_ns", self.run_delay)
            .i64_some("waking_ns", self.waking)
            .i64_some("own_blocked_ns", self.own_blocked)
            .names("end_state", &END_STATES, self.end_state)
            .u32_some("prev_cpu", self.prev_cpu)
            .u32_some("waker_tid", self.waker_tid)
            .u32_some("waker_cpu", self.waker_cpu)
            .i64_all("prio", self.prio)
            .names_some("placement", &PLACEMENTS, self.placement)
            .u32_some("rq_length", self.rq_length)
            .u32_some("dsq_length", self.dsq_length)
            .i64_some("host_stolen_ns", self.stolen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::SLICES;

    #[test]
    fn table_is_as_the_schema_says() {
        let layout = Rows::default().columns(0).layout();
        let expected: Vec<_> = SLICES.iter().map(|c| (c.name.to_string(), c.dtype.to_string())).collect();
        assert_eq!(layout, expected);
    }
}
