//! Pods that mount one claim: its files are restored once, through one pod, and all wait for it.
//!
//! A claim that only one node can mount is filled through the first pod; the gates of the others
//! wait for the same result. A claim that pods on several nodes can mount is different, because an
//! agent writes only to gates on its own node: the other pods are made in a later wave, after the
//! volume is full. The same holds where two volumes of one pod would have the same name at the
//! gate.

use std::collections::{BTreeSet, HashMap};

use super::stock::Wanted;

/// A pod with the volumes it wants filled.
#[derive(Clone, Debug)]
pub(crate) struct PodWants {
    /// Namespace of its claims.
    pub(crate) namespace: String,
    /// What it wants.
    pub(crate) wanted: Vec<Wanted>,
}

/// How one pod gets its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Volumes that are filled through this pod.
    pub(crate) fills: Vec<Wanted>,
    /// Names its gate waits for: its own volumes, and those of other pods that share a claim.
    pub(crate) gate: BTreeSet<String>,
    /// Volumes (pod's place in the list, volume) that are filled through other pods.
    pub(crate) follows: Vec<(usize, String)>,
    /// When the pod is made: after all volumes of earlier waves are full.
    pub(crate) wave: usize,
}

/// Divides the work. `many_nodes` says whether pods on several nodes can mount a claim.
pub(crate) fn divide(pods: &[PodWants], many_nodes: impl Fn(&str, &str) -> bool) -> Vec<Part> {
    let mut first: HashMap<(&str, &str), (usize, &str)> = HashMap::new();
    let mut parts: Vec<Part> = Vec::with_capacity(pods.len());
    for (at, pod) in pods.iter().enumerate() {
        let mut part = Part::default();
        // Claims that another pod fills: that pod, the volume's name there, and whether it can be
        // waited for at the gate.
        let mut shared: Vec<(usize, &str, bool)> = Vec::new();
        for wanted in &pod.wanted {
            if let Some(claim) = &wanted.volume.claim {
                let key = (pod.namespace.as_str(), claim.as_str());
                match first.get(&key) {
                    // The same claim twice in one pod.
                    Some((other, _)) if *other == at => continue,
                    Some((other, name)) => {
                        shared.push((*other, name, !many_nodes(key.0, key.1)));
                        continue;
                    }
                    None => {
                        first.insert(key, (at, &wanted.volume.name));
                    }
                }
            }
            part.gate.insert(wanted.volume.name.clone());
            part.fills.push(wanted.clone());
        }
        let mut taken = part.gate.clone();
        for (other, name, gated) in &mut shared {
            let wave = parts.get(*other).map_or(0, |p| p.wave);
            *gated = *gated && taken.insert((*name).to_owned());
            part.wave = part.wave.max(if *gated { wave } else { wave + 1 });
        }
        for (other, name, gated) in shared {
            let wave = parts.get(other).map_or(0, |p| p.wave);
            if gated && wave == part.wave {
                part.gate.insert(name.to_owned());
            }
            part.follows.push((other, name.to_owned()));
        }
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::volumes::PodVolume;
    use crate::apply::volumes::stock::Stored;

    fn pod(volumes: &[(&str, &str)]) -> PodWants {
        PodWants {
            namespace: "web".into(),
            wanted: volumes
                .iter()
                .map(|(name, claim)| Wanted {
                    volume: PodVolume {
                        name: (*name).into(),
                        claim: (!claim.is_empty()).then(|| (*claim).into()),
                        ephemeral: false,
                    },
                    stored: Stored {
                        namespace: "web".into(),
                        snapshot: "a".repeat(64),
                        partial: false,
                    },
                })
                .collect(),
        }
    }

    /// Per pod: volumes filled, names at the gate, wave.
    fn run(pods: &[PodWants]) -> Vec<(String, String, usize)> {
        divide(pods, |_, claim| claim.starts_with("rwx"))
            .into_iter()
            .map(|part| {
                let fills: Vec<_> = part.fills.iter().map(|w| w.volume.name.as_str()).collect();
                let gate: Vec<_> = part.gate.iter().map(String::as_str).collect();
                (fills.join(","), gate.join(","), part.wave)
            })
            .collect()
    }

    fn row(fills: &str, gate: &str, wave: usize) -> (String, String, usize) {
        (fills.into(), gate.into(), wave)
    }

    #[test]
    fn pods_without_common_claims_are_independent() {
        assert_eq!(
            run(&[
                pod(&[("d", "a"), ("tmp", "")]),
                pod(&[("d", "b"), ("tmp", "")]),
                pod(&[])
            ]),
            [
                row("d,tmp", "d,tmp", 0),
                row("d,tmp", "d,tmp", 0),
                row("", "", 0)
            ]
        );
    }

    #[test]
    fn one_claim_is_filled_once_and_both_gates_wait() {
        let pods = [pod(&[("d", "a")]), pod(&[("files", "a"), ("own", "")])];
        assert_eq!(run(&pods), [row("d", "d", 0), row("own", "d,own", 0)]);
        let parts = divide(&pods, |_, _| false);
        assert_eq!(parts[1].follows, [(0, "d".to_owned())]);
    }

    #[test]
    fn several_nodes_means_a_later_wave() {
        assert_eq!(
            run(&[
                pod(&[("d", "rwx")]),
                pod(&[("d", "rwx")]),
                pod(&[("d", "rwx"), ("x", "")])
            ]),
            [row("d", "d", 0), row("", "", 1), row("x", "x", 1)]
        );
    }

    #[test]
    fn a_clash_of_names_means_a_later_wave() {
        assert_eq!(
            run(&[pod(&[("d", "a")]), pod(&[("files", "a"), ("d", "b")])]),
            [row("d", "d", 0), row("d", "d", 1)]
        );
    }

    #[test]
    fn waves_add_up() {
        assert_eq!(
            run(&[
                pod(&[("d", "rwx1")]),
                pod(&[("d", "rwx1"), ("e", "rwx2")]),
                pod(&[("e", "rwx2")]),
                pod(&[("f", "a"), ("e", "rwx2")]),
                pod(&[("g", "a")]),
            ]),
            [
                row("d", "d", 0),
                row("e", "e", 1),
                row("", "", 2),
                row("f", "f", 2),
                row("", "f", 2),
            ]
        );
    }

    #[test]
    fn one_claim_twice_in_a_pod_is_one_volume() {
        assert_eq!(run(&[pod(&[("d", "a"), ("e", "a")])]), [row("d", "d", 0)]);
    }
}
