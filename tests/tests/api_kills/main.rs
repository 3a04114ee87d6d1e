//! The operator is killed at every write of its state, and the end is the same as without: the same
//! objects, nothing done twice, nothing left in a phase that is no end, no lock left.
//!
//! The operator itself counts its writes, to the API server and to the bucket, and ends without
//! warning in place of the chosen one (`ARK_TEST_END_AT_WRITE`), so every gap between two writes is
//! met, and the same one with the same number. The next operator is an ordinary one. Each scenario
//! is done [`CHOSEN`] times with numbers from a seed; with `ARK_TEST_KILLS=all` with every number
//! until one is larger than the writes that there are. `ARK_TEST_SEED` sets the seed, which every
//! run says.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod backup;
mod deletion;
mod maintenance;
mod restore;
mod sync;

use std::io::Write as _;

use ark_tests::ark::Ark;
use ark_tests::node::until;
use serde_json::json;

/// Numbers of writes that are chosen when not all are.
const CHOSEN: usize = 3;
/// Longest until the end after a kill: a killed operator's lock of a repository is waited for.
const LIMIT: std::time::Duration = std::time::Duration::from_mins(4);
/// More writes than any scenario has.
const TOO_MANY: u64 = 80;

/// Something the operator does from a beginning to an end.
trait Scenario {
    /// What it is, also the beginning of the names of its objects.
    const NAME: &'static str;
    /// Writes that it took when it was last counted; larger numbers are not chosen by the seed.
    const WRITES: u64;

    /// Does what comes before, with an operator that is spared.
    async fn prepare(&mut self, ark: &mut Ark, name: &str);
    /// Has the operator begin. The operator may be dead already when this returns.
    async fn begin(&mut self, ark: &mut Ark, name: &str);
    /// Plays everybody but the operator for a moment, and tells whether the operator has come to
    /// the end.
    async fn ended(&mut self, ark: &Ark, name: &str) -> bool;
    /// What is true at the end, whatever happened on the way.
    async fn check(&mut self, ark: &Ark, name: &str);
}

/// Plays a scenario again and again, with the operator killed at another write each time.
async fn play<S: Scenario>(ark: &mut Ark, mut scenario: S) {
    let all = std::env::var("ARK_TEST_KILLS").is_ok_and(|wish| wish == "all");
    let seed = std::env::var("ARK_TEST_SEED").map_or_else(
        |_| u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap(),
        |text| text.parse().unwrap(),
    );
    let mut err = std::io::stderr();
    writeln!(err, "{}: ARK_TEST_SEED={seed}", S::NAME).unwrap();
    let numbers = if all {
        (1..=TOO_MANY).collect()
    } else {
        chosen(seed, S::WRITES)
    };
    for number in numbers {
        let name = format!("{}-{number}", S::NAME);
        scenario.prepare(ark, &name).await;
        ark.end_operator_at_write(number);
        scenario.begin(ark, &name).await;
        let mut killed = false;
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            if !killed && ark.operator_has_ended() {
                killed = true;
                ark.start_operator();
            }
            if scenario.ended(ark, &name).await {
                break;
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "{name} has no end; seed {seed}; {}", ark.tail());
            // Between two looks at the condition.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        if !killed && !ark.spare_operator() {
            // It ended in the very last moment.
            until("end of the operator", async || {
                ark.operator_has_ended().then_some(())
            })
            .await;
            killed = true;
            ark.start_operator();
        }
        let word = if killed { "killed" } else { "not reached" };
        writeln!(err, "{name}: {word}").unwrap();
        scenario.check(ark, &name).await;
        if all && !killed {
            return;
        }
    }
    assert!(!all, "{} makes more than {TOO_MANY} writes", S::NAME);
}

/// Different numbers from 1 to `most`, from a seed, without those that are left out.
fn chosen(seed: u64, most: u64) -> Vec<u64> {
    let mut state = seed | 1;
    let mut numbers = Vec::new();
    let there = usize::try_from(most).unwrap();
    while numbers.len() < CHOSEN.min(there) {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let number = state % most + 1;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    numbers
}

/// An installation whose operator can be killed at a write, with variables of the caller's.
async fn installation(env: &[(&str, &str)]) -> Ark {
    let mut ark = Ark::idle(&ark_tests::ark::PLANE).await;
    ark.count_writes();
    for (key, value) in env {
        ark.env.push(((*key).to_owned(), (*value).to_owned()));
    }
    ark.start_operator();
    ark.make_location().await;
    ark
}

/// A running pod of the application with a volume that holds a file, and a real agent on its node.
async fn application(ark: &mut Ark) {
    let node = ark.node("n").await;
    ark.start_agent(&node);
    let annotations = json!({"backup.ark.heptio.com/backup-volumes": "data"});
    let volumes = json!([{"name": "data", "emptyDir": {}}]);
    let pod = ark.pod("web", &node, annotations, volumes).await;
    std::fs::write(ark.empty_dir(&pod, "data").join("a"), "hello").unwrap();
}

/// The names of the backups of whose volumes there are snapshots, one for each snapshot, in order.
async fn snapshots(ark: &Ark) -> Vec<String> {
    let all = ark
        .in_repository(&ark.shop, |repository| repository.snapshots().unwrap())
        .await;
    let mut names: Vec<String> = all
        .into_iter()
        .flat_map(|snapshot| snapshot.tags)
        .filter_map(|tag| tag.strip_prefix("backup=").map(str::to_owned))
        .collect();
    names.sort();
    names
}
