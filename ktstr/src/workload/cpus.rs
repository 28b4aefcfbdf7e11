//! Sets of CPUs in terms of the guest's topology.

use ktstr_wire::topology::Topology;

use crate::Result;

/// A set of CPUs in terms of the guest's topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// All CPUs.
    All,
    /// The CPUs of a last-level cache, counted over the machine.
    Llc(u32),
    /// The CPUs of a NUMA node.
    Node(u32),
    /// From the first number up to, not including, the second.
    Range(u32, u32),
    /// A list such as `0-1,4`.
    List(String),
    /// Part `index` if all CPUs, in ascending order, are divided into `of` parts of equal size (or almost).
    Part {
        /// Number of the part, from 0.
        index: u32,
        /// Number of parts.
        of: u32,
    },
    /// The same part and `more` CPUs of the next one. The first part follows the last.
    Overlapping {
        /// Number of the part, from 0.
        index: u32,
        /// Number of parts.
        of: u32,
        /// Number of CPUs beyond the part.
        more: u32,
    },
}

impl Cpus {
    /// The CPUs as a list for the kernel. Errors: CPUs that `topology` does not have, an empty set.
    pub fn list(&self, topology: Topology) -> Result<String> {
        let all = self.numbers(topology)?;
        Ok(all.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
    }

    /// The CPU numbers.
    pub(crate) fn numbers(&self, topology: Topology) -> Result<Vec<u32>> {
        let n = topology.nr_cpus();
        let cpus: Vec<u32> = match *self {
            Cpus::All => (0..n).collect(),
            Cpus::Llc(i) => (0..n).filter(|c| topology.llc_of(*c) == i).collect(),
            Cpus::Node(i) => (0..n).filter(|c| topology.node_of(*c) == i).collect(),
            Cpus::Range(a, b) if a < n && b > n => {
                return Err(format!(
                    "CPUs {a} to {} are not all on {topology}, whose last one is {}",
                    b - 1,
                    n - 1
                )
                .into());
            }
            Cpus::Range(a, b) => (a..b.min(n)).collect(),
            Cpus::Part { index, of } => part(n, index, of, 0),
            Cpus::Overlapping { index, of, more } => part(n, index, of, more),
            Cpus::List(ref list) => parse(list, topology)?,
        };
        if cpus.is_empty() {
            return Err(format!("{self:?} has no CPU on {topology}").into());
        }
        Ok(cpus)
    }
}

/// The CPUs of a list such as `0-1,4`.
fn parse(list: &str, topology: Topology) -> Result<Vec<u32>> {
    let n = topology.nr_cpus();
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let mut all = Vec::new();
    for part in list.split(',') {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (Some(a), Some(b)) = (number(a), number(b)) else {
            return Err(format!("'{list}' is not a list of CPUs: write as in 0-1,4").into());
        };
        if b < a || b >= n {
            let what =
                if b < a { format!("'{part}' runs backwards") } else { format!("there is no CPU {b}") };
            return Err(format!("'{list}': {what}; {topology} has CPUs 0 to {}", n - 1).into());
        }
        all.extend(a..=b);
    }
    Ok(all)
}

fn part(n: u32, index: u32, of: u32, more: u32) -> Vec<u32> {
    if of == 0 || index >= of {
        return Vec::new();
    }
    let edge = |i: u32| n * i / of;
    let (first, len) = (edge(index), (edge(index + 1) - edge(index) + more).min(n));
    (first..first + len).map(|c| c % n).collect()
}

impl From<&str> for Cpus {
    fn from(list: &str) -> Cpus {
        Cpus::List(list.into())
    }
}

impl From<String> for Cpus {
    fn from(list: String) -> Cpus {
        Cpus::List(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(cpus: Cpus, topology: &str) -> Result<String> {
        cpus.list(topology.parse().unwrap())
    }

    #[test]
    fn parts_of_the_topology() {
        // 2 nodes x 1 LLC x 2 cores x 2 threads: 4 CPUs a node.
        let t = "2n1l2c2t";
        assert_eq!(list(Cpus::Llc(1), t).unwrap(), "4,5,6,7");
        assert_eq!(list(Cpus::Node(0), t).unwrap(), "0,1,2,3");
        assert_eq!(list(Cpus::Range(2, 4), t).unwrap(), "2,3");
        assert_eq!(list(Cpus::Part { index: 1, of: 3 }, t).unwrap(), "2,3,4");
        assert_eq!(list(Cpus::Overlapping { index: 1, of: 2, more: 1 }, t).unwrap(), "4,5,6,7,0");
        assert_eq!(Cpus::from("0-2,7").numbers(t.parse().unwrap()).unwrap(), [0, 1, 2, 7]);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        for cpus in [Cpus::Llc(2), Cpus::Node(2), Cpus::Range(9, 12), Cpus::Part { index: 0, of: 0 }] {
            let e = list(cpus, "2n1l2c2t").unwrap_err().to_string();
            assert!(e.contains("no CPU on 2n1l2c2t"), "{e}");
        }
        let wrong = |cpus: Cpus| list(cpus, "1n1l2c1t").unwrap_err().to_string();
        assert_eq!(wrong("7".into()), "'7': there is no CPU 7; 1n1l2c1t has CPUs 0 to 1");
        assert!(wrong("0-4294967295".into()).contains("no CPU 4294967295"));
        assert!(wrong("1-0".into()).contains("backwards"));
        assert!(wrong("x".into()).contains("write as in 0-1,4") && wrong("".into()).contains("write as in"));
        assert!(wrong(Cpus::Range(1, 4)).contains("CPUs 1 to 3 are not all on 1n1l2c1t"));
    }
}
