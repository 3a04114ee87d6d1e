//! What is wrong with a location as the operator sees it. Pure; what the store depends on is judged by
//! [`ark_api::store_settings`].

use ark_api::BackupStorageLocation;
use kube::ResourceExt;

/// All that is wrong beside what [`ark_api::store_settings::resolve`] finds.
pub(super) fn problems(location: &BackupStorageLocation) -> Vec<String> {
    let spec = &location.spec;
    let mut problems = Vec::new();
    if spec.origin.is_some() {
        problems.push(
            "spec.origin marks a record read from elsewhere, which is never used as a location"
                .to_owned(),
        );
    }
    problems
}

/// What to tell about this location when several are marked as the default one.
pub(super) fn duplicate_default(
    location: &BackupStorageLocation,
    all: &[BackupStorageLocation],
) -> Option<String> {
    if location.spec.default != Some(true) {
        return None;
    }
    let mut names: Vec<String> = all
        .iter()
        .filter(|other| other.spec.default == Some(true))
        .map(ResourceExt::name_any)
        .collect();
    names.sort();
    (names.len() > 1).then(|| {
        format!(
            "{} locations are marked default ({}): backups that name no location are refused until one is left",
            names.len(),
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use ark_api::location::BackupStorageLocationSpec;
    use ark_api::origin::Origin;

    use super::*;

    fn location(name: &str, default: bool) -> BackupStorageLocation {
        let spec = BackupStorageLocationSpec {
            default: Some(default),
            ..BackupStorageLocationSpec::default()
        };
        BackupStorageLocation::new(name, spec)
    }

    #[test]
    fn a_record_read_from_elsewhere_is_no_location() {
        let mut bad = location("a", false);
        bad.spec.origin = Some(Origin::default());
        assert_eq!(problems(&bad).len(), 1);
        bad.spec.origin = None;
        assert!(problems(&bad).is_empty());
    }

    #[test]
    fn two_defaults_are_reported_on_both_and_only_there() {
        let all = [
            location("a", true),
            location("b", true),
            location("c", false),
        ];
        assert!(duplicate_default(&all[0], &all).unwrap().contains("a, b"));
        assert!(duplicate_default(&all[1], &all).is_some());
        assert!(duplicate_default(&all[2], &all).is_none());
        assert!(duplicate_default(&all[0], &all[..1]).is_none());
    }
}
