//! From a Schedule's spec to what can be acted on, or every reason why it cannot. Pure.

use ark_api::cron::Cron;
use ark_api::location::BackupStorageLocation;
use ark_api::{Schedule, naming};
use jiff::SignedDuration;
use kube::ResourceExt;

use crate::reconcile::backup::validate as backup;
use crate::reconcile::expiry::retention;

/// Spread of schedules that do not say theirs, in seconds.
const DEFAULT_SPREAD: u64 = 60;
/// Longest spread, in seconds.
const LONGEST_SPREAD: u64 = 24 * 3600;
/// Longest name a Backup may have.
const MAX_NAME: usize = 253;
/// What is put behind the schedule's name to make the name of a Backup: `-YYYYMMDDhhmmss`.
const STAMP: usize = 15;

/// A schedule that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Valid {
    /// When it is due.
    pub(super) cron: Cron,
    /// How long after that it starts.
    pub(super) shift: SignedDuration,
}

/// Checks a schedule. `default` is the location the installation names as its default.
pub(super) fn validate(
    schedule: &Schedule,
    locations: &[BackupStorageLocation],
    default: Option<&str>,
) -> Result<Valid, Vec<String>> {
    let spec = &schedule.spec;
    let mut problems = Vec::new();
    let cron = Cron::parse(&spec.schedule, spec.timezone.as_deref())
        .map_err(|error| problems.push(error.to_string()))
        .ok();
    let spread = spec
        .spread
        .map_or(DEFAULT_SPREAD, |spread| spread.0.as_secs());
    if spread > LONGEST_SPREAD {
        problems.push("spec.spread is longer than a day; write for example 30m".to_owned());
    }
    let name = schedule.name_any();
    if name.len() + STAMP > MAX_NAME {
        problems.push(format!(
            "its name is too long: its Backups are named <name>-YYYYMMDDhhmmss, so it may have {} characters",
            MAX_NAME - STAMP
        ));
    }
    if spec
        .retention
        .is_some_and(|retention| retention::policy(&retention).is_empty())
    {
        problems.push(
            "spec.retention keeps nothing: set for example keepDaily: 7, or leave it out"
                .to_owned(),
        );
    }
    if spec.template.origin.is_some() {
        problems.push(
            "spec.template.origin marks records read from elsewhere: leave it out".to_owned(),
        );
    }
    let mut template = spec.template.clone();
    template.metadata = None;
    if let Err(why) = backup::validate(&template, locations, default) {
        problems.extend(why.into_iter().map(|why| format!("spec.template: {why}")));
    }
    let shift = |cron: &Cron| {
        let seconds = if cron.is_interval() || spread == 0 {
            0
        } else {
            naming::spread(&schedule.uid().unwrap_or_default()) % spread
        };
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or_default())
    };
    match cron {
        Some(cron) if problems.is_empty() => Ok(Valid {
            shift: shift(&cron),
            cron,
        }),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use ark_api::schedule::ScheduleSpec;

    use super::*;

    fn check(spec: serde_json::Value) -> Result<Valid, Vec<String>> {
        let spec: ScheduleSpec = serde_json::from_value(spec).unwrap();
        let mut schedule = Schedule::new("s", spec);
        schedule.metadata.uid = Some("5f0c5a4e".to_owned());
        let here = BackupStorageLocation::new(
            "here",
            ark_api::location::BackupStorageLocationSpec::default(),
        );
        validate(&schedule, &[here], Some("here"))
    }

    #[test]
    fn every_reason_is_said_at_once() {
        let problems = check(serde_json::json!({
            "schedule": "0 1 31 2 *", "spread": "48h", "retention": {"keepDaily": 0},
            "template": {"storageLocation": "nowhere", "snapshotVolumes": true},
        }))
        .unwrap_err();
        let text = problems.join("\n");
        for words in [
            "never due",
            "longer than a day",
            "keeps nothing",
            "spec.template: location nowhere",
            "spec.template: spec.snapshotVolumes",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert!(check(serde_json::json!({})).unwrap_err()[0].contains("is empty"));
    }

    #[test]
    fn a_shift_is_stable_within_the_spread_and_intervals_have_none() {
        let shift = |spec| check(spec).unwrap().shift;
        let hour = serde_json::json!({"schedule": "0 1 * * *", "spread": "1h"});
        let found = shift(hour.clone());
        assert!(found < SignedDuration::from_hours(1));
        assert_eq!(found, shift(hour));
        for spec in [
            serde_json::json!({"schedule": "0 1 * * *", "spread": "0"}),
            serde_json::json!({"schedule": "@every 6h"}),
        ] {
            assert!(shift(spec).is_zero());
        }
        assert!(shift(serde_json::json!({"schedule": "@daily"})) < SignedDuration::from_mins(1));
    }

    #[test]
    fn labels_of_a_template_are_no_mistake() {
        let metadata = serde_json::json!({"labels": {"tier": "0"}});
        let spec = serde_json::json!({"schedule": "@daily", "template": {"metadata": metadata}});
        assert!(check(spec).is_ok());
    }
}
