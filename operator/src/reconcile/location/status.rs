//! From what was found to a location's status. Pure.

use ark_api::BackupStorageLocation;
use ark_api::condition::{self, kind, reason};
use ark_api::location::LocationPhase;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::look::Found;

/// Writes what was found into the status of `location`. `note` is said even when all is well.
pub(super) fn apply(
    location: &mut BackupStorageLocation,
    found: &Found,
    note: Option<&str>,
    now: &Time,
) {
    let name = location.name_any();
    let generation = location.metadata.generation;
    let status = location.status.get_or_insert_default();
    status.observed_generation = generation;
    status.last_validation_time = Some(now.clone());
    let conditions = &mut status.conditions;
    let mut set = |kind: &str, ok: bool, reason: &str, message: &str| {
        condition::set(conditions, kind, ok, reason, message, generation, now);
    };
    match &found.unavailable {
        None => {
            status.phase = Some(LocationPhase::Available);
            status.message = note.map(str::to_owned);
            set(kind::AVAILABLE, true, reason::OK, "the store answers");
        }
        Some((reason, message)) => {
            status.phase = Some(LocationPhase::Unavailable);
            status.message = Some(match note {
                Some(note) => format!("{message}; {note}"),
                None => message.clone(),
            });
            set(kind::AVAILABLE, false, reason, message);
        }
    }
    if let Some(key) = found.key {
        let says = key.available(&name);
        set(kind::KEY_AVAILABLE, says.status, says.reason, &says.message);
        match key.exported(&name) {
            Some(says) => set(kind::KEY_EXPORTED, says.status, says.reason, &says.message),
            None => conditions.retain(|c| c.type_ != kind::KEY_EXPORTED),
        }
    }
    if let Some(token) = &found.handshake {
        status.handshake = Some(token.clone());
    }
    if let Some(says) = &found.shared {
        condition::set(
            &mut status.conditions,
            kind::SHARED_DIRECTORY,
            says.status,
            says.reason,
            &says.message,
            generation,
            now,
        );
    }
}

#[cfg(test)]
mod tests {
    use ark_api::location::BackupStorageLocationSpec;

    use super::*;
    use crate::repository_key::KeyState;

    fn now() -> Time {
        Time("2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn reason_of(location: &BackupStorageLocation, kind: &str) -> Option<String> {
        let conditions = &location.status.as_ref().unwrap().conditions;
        condition::get(conditions, kind).map(|c| format!("{}/{}", c.status, c.reason))
    }

    #[test]
    fn phases_and_conditions_follow_what_was_found() {
        let mut location = BackupStorageLocation::new("l", BackupStorageLocationSpec::default());
        let mut found = Found {
            key: Some(KeyState::OnlyInCluster),
            ..Found::default()
        };
        apply(&mut location, &found, None, &now());
        assert_eq!(
            location.status.as_ref().unwrap().phase,
            Some(LocationPhase::Available)
        );
        assert_eq!(
            reason_of(&location, kind::KEY_EXPORTED).unwrap(),
            "False/KeyOnlyInCluster"
        );

        // An unreachable store says nothing new about the key, so what was known stays.
        found.key = None;
        found.unavailable = Some((reason::UNREACHABLE, "refused".to_owned()));
        apply(&mut location, &found, Some("two defaults"), &now());
        let status = location.status.as_ref().unwrap();
        assert_eq!(status.phase, Some(LocationPhase::Unavailable));
        assert_eq!(status.message.as_deref(), Some("refused; two defaults"));
        assert_eq!(
            reason_of(&location, kind::AVAILABLE).unwrap(),
            "False/Unreachable"
        );
        assert_eq!(
            reason_of(&location, kind::KEY_EXPORTED).unwrap(),
            "False/KeyOnlyInCluster"
        );

        // A key that vanished takes its condition along.
        found = Found {
            key: Some(KeyState::Missing),
            ..Found::default()
        };
        apply(&mut location, &found, None, &now());
        assert_eq!(reason_of(&location, kind::KEY_EXPORTED), None);
        assert_eq!(
            reason_of(&location, kind::KEY_AVAILABLE).unwrap(),
            "False/KeyMissing"
        );
    }
}
