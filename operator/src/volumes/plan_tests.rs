use ark_api::volume::VolumeCounts;

use super::*;

fn volume(name: &str, source: Source) -> PodVolume {
    PodVolume {
        name: name.to_owned(),
        source,
        mounted: true,
        device: false,
    }
}

fn claim(name: &str) -> Source {
    Source::Claim(name.to_owned())
}

fn pod(name: &str, included: &[&str], volumes: Vec<PodVolume>) -> PodFacts {
    PodFacts {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        node: Some("n1".to_owned()),
        phase: "Running".to_owned(),
        leaving: false,
        owner: format!("deployment/{name}"),
        included: included.iter().map(|name| (*name).to_owned()).collect(),
        excluded: Vec::new(),
        hooks: false,
        volumes,
    }
}

fn bound(item: bool) -> ClaimFacts {
    ClaimFacts {
        uid: "claim-uid".to_owned(),
        bound: true,
        disk: Some("pv".to_owned()),
        item,
        ..ClaimFacts::default()
    }
}

fn facts(pods: Vec<PodFacts>, claims: &[(&str, ClaimFacts)]) -> Facts {
    Facts {
        pods: pods
            .into_iter()
            .map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod))
            .collect(),
        claims: claims
            .iter()
            .map(|(name, claim)| (("shop".to_owned(), (*name).to_owned()), claim.clone()))
            .collect(),
        absent_claims: BTreeSet::new(),
        disks: BTreeMap::new(),
    }
}

fn run(facts: &Facts, opt_out: bool) -> Plan {
    let agents = ["n1".to_owned()].into();
    plan(
        facts,
        &agents,
        Rules {
            opt_out,
            claims_excluded: false,
        },
    )
}

fn show(plan: &Plan) -> Vec<String> {
    plan.rows
        .iter()
        .map(|row| {
            let what = row
                .volume
                .as_deref()
                .or(row.claim.as_deref())
                .unwrap_or_default();
            format!("{what} {:?} {:?}", row.class, row.reason)
        })
        .collect()
}

#[test]
fn opt_in_takes_what_is_named_and_reports_the_rest() {
    let web = pod(
        "web",
        &["data", "cache", "nothing"],
        vec![
            volume("data", claim("a")),
            volume("other", claim("b")),
            volume("cache", Source::Scratch),
            volume("tmp", Source::Scratch),
            volume("token", Source::NotData),
            volume("log", Source::HostPath),
        ],
    );
    let facts = facts(
        vec![web],
        &[("a", bound(true)), ("b", bound(true)), ("c", bound(true))],
    );
    let plan = run(&facts, false);
    assert_eq!(
        show(&plan),
        [
            "data Failed AgentError",
            "other Unprotected NotAnnotated",
            "cache Failed AgentError",
            "tmp Chosen NotAnnotated",
            "token NotData NoDataOfItsOwn",
            "log Unprotected HostPath",
            "nothing Failed NoSuchVolume",
            "c Unprotected NotMounted",
        ]
    );
    assert_eq!(plan.tasks.len(), 2);
    assert_eq!(
        plan.tasks[0].claim.as_ref().unwrap().volume_name.as_deref(),
        Some("pv")
    );
    assert_eq!(
        (plan.tasks[1].row, plan.tasks[1].volume.as_str()),
        (2, "cache")
    );
}

#[test]
fn opt_out_takes_everything_but_exclusions() {
    let mut web = pod(
        "web",
        &[],
        vec![
            volume("data", claim("a")),
            volume("tmp", Source::Scratch),
            volume("nfs", Source::Other),
        ],
    );
    web.excluded = vec!["tmp".to_owned(), "ghost".to_owned()];
    let facts = facts(vec![web], &[("a", bound(true))]);
    let plan = run(&facts, true);
    assert_eq!(
        show(&plan),
        [
            "data Failed AgentError",
            "tmp Chosen ExcludedByAnnotation",
            "nfs Failed AgentError"
        ]
    );
    assert_eq!(plan.tasks.len(), 2);
    assert!(plan.warnings[0].1.contains("ghost"));
}

#[test]
fn two_pods_on_one_claim_share_one_task() {
    let mut first = pod(
        "a-pending",
        &["data"],
        vec![volume("data", claim("shared"))],
    );
    first.phase = "Pending".to_owned();
    let second = pod(
        "b-running",
        &["data"],
        vec![volume("data", claim("shared"))],
    );
    let third = pod("c-silent", &[], vec![volume("data", claim("shared"))]);
    let mut fourth = pod("d-excluded", &[], vec![volume("data", claim("shared"))]);
    fourth.excluded = vec!["data".to_owned()];
    let facts = facts(
        vec![first, second, third, fourth],
        &[("shared", bound(true))],
    );
    let plan = run(&facts, false);
    assert_eq!(plan.tasks.len(), 1);
    assert_eq!(plan.tasks[0].pod.name, "b-running");
    assert_eq!(
        show(&plan),
        [
            "data Taken TakenThroughOtherPod",
            "data Failed AgentError",
            "data Taken TakenThroughOtherPod",
            "data Chosen ExcludedByAnnotation",
        ]
    );
    assert_eq!(plan.followers, [(0, 1), (2, 1)]);
}

#[test]
fn what_is_asked_for_and_cannot_be_taken_has_failed() {
    let pending = {
        let mut pod = pod("pending", &["v"], vec![volume("v", Source::Scratch)]);
        pod.phase = "Pending".to_owned();
        pod
    };
    let elsewhere = {
        let mut pod = pod("elsewhere", &["v"], vec![volume("v", Source::Scratch)]);
        pod.node = Some("n9".to_owned());
        pod
    };
    let hooked = {
        let mut pod = pod("hooked", &["v"], vec![volume("v", Source::Scratch)]);
        pod.hooks = true;
        pod
    };
    let block = {
        let mut block = volume("v", claim("block"));
        block.mounted = false;
        block.device = true;
        pod("block", &["v"], vec![block])
    };
    let unbound = pod("unbound", &["v"], vec![volume("v", claim("gone"))]);
    let host = pod("host", &["v"], vec![volume("v", Source::HostPath)]);
    let facts = facts(
        vec![pending, elsewhere, hooked, block, unbound, host],
        &[("block", bound(true))],
    );
    let plan = run(&facts, false);
    assert!(plan.tasks.is_empty());
    let mut rows = show(&plan);
    rows.sort();
    assert_eq!(
        rows,
        [
            "v Failed BlockVolume",
            "v Failed ClaimNotBound",
            "v Failed HooksUnsupported",
            "v Failed HostPath",
            "v Failed NoAgentOnNode",
            "v Failed PodNotRunning",
        ]
    );
    assert_eq!(VolumeCounts::of(&plan.rows).failed, 6);
}

#[test]
fn finished_pods_and_unmounted_volumes_are_no_failures() {
    let mut job = pod(
        "job",
        &[],
        vec![volume("tmp", Source::Scratch), volume("data", claim("a"))],
    );
    job.phase = "Succeeded".to_owned();
    let mut idle = volume("idle", Source::Scratch);
    idle.mounted = false;
    let web = pod("web", &[], vec![idle]);
    let plan = run(&facts(vec![job, web], &[("a", bound(true))]), true);
    assert_eq!(
        show(&plan),
        [
            "tmp NotData PodNotRunning",
            "data Unprotected PodNotRunning",
            "idle NotData NotMounted"
        ]
    );
}

#[test]
fn a_claim_without_a_volume_holds_nothing_and_one_that_lost_it_has_failed() {
    let unbound = ClaimFacts {
        bound: false,
        disk: None,
        ..bound(true)
    };
    let lost = ClaimFacts {
        bound: false,
        ..bound(true)
    };
    let mut pending = pod(
        "pending",
        &["new", "absent", "lost", "unknown", "tmp"],
        vec![
            volume("new", claim("new")),
            volume("absent", claim("absent")),
            volume("lost", claim("lost")),
            volume("unknown", claim("unknown")),
            volume("tmp", Source::Scratch),
        ],
    );
    pending.phase = "Pending".to_owned();
    pending.node = None;
    let mut facts = facts(vec![pending], &[("new", unbound), ("lost", lost)]);
    let absent = ("shop".to_owned(), "absent".to_owned());
    facts.absent_claims.insert(absent);
    let plan = run(&facts, false);
    assert_eq!(
        show(&plan),
        [
            "new NotData ClaimNotBound",
            "absent NotData ClaimNotBound",
            "lost Failed ClaimNotBound",
            "unknown Failed ClaimNotBound",
            "tmp NotData PodNotRunning",
        ]
    );
}

#[test]
fn volumes_of_a_pod_that_is_being_deleted_are_taken_through_another_pod_if_there_is_one() {
    let volumes = || vec![volume("data", claim("a")), volume("tmp", Source::Scratch)];
    let mut old = pod("a-old", &["data", "tmp"], volumes());
    old.leaving = true;
    let new = pod("b-new", &["data", "tmp"], volumes());
    let alone = run(&facts(vec![old.clone()], &[("a", bound(true))]), false);
    assert_eq!(alone.tasks.len(), 2);
    let both = run(&facts(vec![old, new], &[("a", bound(true))]), false);
    let taken: Vec<(&str, &str)> = both
        .tasks
        .iter()
        .map(|task| (task.pod.name.as_str(), task.volume.as_str()))
        .collect();
    assert_eq!(
        taken,
        [("b-new", "data"), ("b-new", "tmp"), ("a-old", "tmp")]
    );
}

#[test]
fn an_empty_dir_that_ends_with_its_pod_is_no_failure_unless_it_was_named() {
    let mut old = pod("old", &["tmp"], vec![volume("tmp", Source::Scratch)]);
    old.leaving = true;
    let old = facts(vec![old], &[]);
    for (opt_out, shown) in [
        (true, "tmp NotData PodNotRunning"),
        (false, "tmp Failed PodNotRunning"),
    ] {
        let mut plan = run(&old, opt_out);
        assert_eq!(plan.tasks.len(), 1);
        plan.rows[0].reason = VolumeReason::PodNotRunning;
        plan.forgive_ended_pods();
        assert_eq!(show(&plan), [shown]);
    }
}

#[test]
fn host_path_disks_labels_and_filters() {
    let excluded = ClaimFacts {
        excluded: true,
        ..bound(false)
    };
    let web = pod(
        "web",
        &["disk"],
        vec![volume("disk", claim("disk")), volume("no", claim("no"))],
    );
    let mut facts = facts(vec![web], &[("disk", bound(true)), ("no", excluded)]);
    facts.disks.insert("pv".to_owned(), true);
    let plan = run(&facts, false);
    assert_eq!(
        show(&plan),
        ["disk Failed HostPath", "no Chosen ExcludedByLabel"]
    );
    let rules = Rules {
        opt_out: true,
        claims_excluded: true,
    };
    let plan = super::plan(&facts, &["n1".to_owned()].into(), rules);
    assert_eq!(
        show(&plan),
        ["disk Chosen ExcludedByFilter", "no Chosen ExcludedByLabel"]
    );
}
