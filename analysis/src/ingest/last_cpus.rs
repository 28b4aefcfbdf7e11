//! The CPU of each task at the end of the records.

use ktstr_wire::record::Record;

use crate::model::task_names::MAX_TID;

/// For each thread id the time of its last record, and the CPU to which the task belongs after it.
#[derive(Debug, Default)]
pub(crate) struct LastCpus(Vec<(u64, u16)>);

impl LastCpus {
    /// Notes a record. Records come in any order.
    pub(crate) fn note(&mut self, record: &Record) {
        let (time, tid, cpu) = match record {
            Record::Slice(s) => (s.ts_ns.saturating_add(s.dur_ns), s.tid as usize, s.cpu),
            Record::Migration(m) => (m.ts_ns, m.tid as usize, m.to_cpu),
        };
        if tid >= MAX_TID {
            return;
        }
        if tid >= self.0.len() {
            self.0.resize(tid + 1, (0, 0));
        }
        self.0[tid] = self.0[tid].max((time, cpu));
    }

    /// The CPU of a task; `None`: it has no record.
    pub(crate) fn of(&self, tid: u32) -> Option<u16> {
        self.0.get(tid as usize).filter(|last| **last != (0, 0)).map(|(_, cpu)| *cpu)
    }
}
