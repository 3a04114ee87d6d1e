//! What can be typed, and what it means.

use clap::{CommandFactory, Parser};

use super::*;

fn parse(line: &str) -> std::result::Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn nouns_verbs_and_plurals_mean_the_same() {
    for line in [
        "ark backup get",
        "ark backups get",
        "ark get backups",
        "ark get backup",
        "ark get backups -o json",
        "ark backup get a b -L team --show-labels",
        "ark create backup x",
        "ark create backups x",
        "ark describe backup x",
        "ark backups describe x --details",
        "ark restore create x",
        "ark create restore --from-backup x",
        "ark get restores",
        "ark restores logs x",
        "ark backup-locations get",
        "ark get bsl",
        "ark create backup-location x --provider local --bucket y",
        "ark backup-location set x --default",
        "ark bsl set x --access-mode ReadOnly --backup-sync-period 0",
        "ark backup-location delete x --confirm",
        "ark delete backup-locations --all",
        "ark schedule create s --schedule @daily",
        "ark create schedule s --schedule @daily --keep-daily 7",
        "ark schedules get",
        "ark get schedules -o json",
        "ark get schedule s",
        "ark describe schedules",
        "ark schedule describe s -o json",
        "ark schedule pause s",
        "ark pause schedule --all",
        "ark schedule unpause -l a=b --skip-immediately",
        "ark unpause schedule s",
        "ark schedule delete s --confirm",
        "ark delete schedule s",
        "ark backup delete a b --confirm --wait",
        "ark delete backups --all --confirm",
        "ark restore delete -l a=b --confirm --force",
        "ark delete restore r",
        "ark restic repo get",
        "ark repo get",
        "ark get repos",
        "ark restic repo key export --location default --output file",
        "ark version --client-only",
        "ark completion bash",
        "ark -n other backup get",
        "ark backup get -n other --kubeconfig f --kubecontext c",
    ] {
        parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    for line in [
        "ark",
        "ark backup",
        "ark backup create",
        "ark backup create a b",
        "ark backup create x -l a=b --or-selector c=d",
        "ark backup create x -l a=b=c",
        "ark backup create x --ttl 3",
        "ark backup create x --from-schedule s --include-namespaces n",
        "ark backup create x --timeout 3s",
        "ark backup get x -l a=b",
        "ark restore create --from-backup a --from-schedule b",
        "ark restore create x --allow-partially-failed",
        "ark restore create x --existing-resource-policy maybe",
        "ark backup-location create x --provider local",
        "ark backup-location set x",
        "ark backup-location set",
        "ark backup-location set x --access-mode none",
        "ark backup-location set x --validation-frequency soon",
        "ark backup-location delete",
        "ark backup-location delete x --all",
        "ark backup delete",
        "ark backup delete a --all",
        "ark backup delete a -l b=c",
        "ark schedule create s",
        "ark schedule pause",
        "ark schedule unpause s --all",
        "ark restic repo key export --force",
        "ark completion tcsh",
    ] {
        let error = parse(line).map(|_| ()).expect_err(line);
        assert!(error.use_stderr(), "{line}");
    }
}

/// The object that `create -o yaml` prints.
fn created(line: &str) -> String {
    use crate::print::structured::{Form, object};
    match parse(line).unwrap().command {
        Command::Backup(BackupVerb::Create(args)) => {
            object(&args.object(None, jiff::Timestamp::UNIX_EPOCH), Form::Yaml).unwrap()
        }
        Command::Schedule(ScheduleVerb::Create(args)) => {
            object(&args.object(), Form::Yaml).unwrap()
        }
        Command::Restore(RestoreVerb::Create(args)) => object(
            &args.object(jiff::Timestamp::UNIX_EPOCH).unwrap().0,
            Form::Yaml,
        )
        .unwrap(),
        Command::BackupLocation(LocationVerb::Create(args)) => {
            object(&location_create::object(*args).unwrap(), Form::Yaml).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn backup_options_end_up_in_the_object() {
    insta::assert_snapshot!(created(
        "ark backup create b --include-namespaces a,b --exclude-namespaces c \
         --include-resources pods,deployments.apps --exclude-resources events \
         --include-cluster-scoped-resources e --exclude-cluster-scoped-resources f \
         --include-namespace-scoped-resources g --exclude-namespace-scoped-resources h \
         --include-cluster-resources=false -l app=nginx,tier!=db \
         --ordered-resources pods=n/a;persistentvolumeclaims=n/b --ttl 72h --storage-location s \
         --volume-snapshot-locations v --snapshot-volumes --snapshot-move-data=true --data-mover m \
         --default-volumes-to-fs-backup --resource-policies-configmap r --parallel-files-upload 4 \
         --csi-snapshot-timeout 5m --item-operation-timeout 1h --labels a=b --annotations c=d"
    ));
}

#[test]
fn restore_options_end_up_in_the_object() {
    insta::assert_snapshot!(created(
        "ark restore create r --from-backup b --include-namespaces a --exclude-namespaces c \
         --namespace-mappings a:z,b:y --include-resources pods --exclude-resources events \
         --include-cluster-resources -l app=nginx --restore-volumes=false --preserve-nodeports \
         --existing-resource-policy update --status-include-resources s \
         --status-exclude-resources t --resource-modifier-configmap m \
         --resource-policies-configmap p --write-sparse-files=false --parallel-files-download 2 \
         --item-operation-timeout 1h --volume-bind-timeout 30m --volume-queue-timeout 2h \
         --missing-volume-data accept --non-empty-volumes fill --labels a=b --annotations c=d"
    ));
}

#[test]
fn location_options_end_up_in_the_object() {
    insta::assert_snapshot!(created(
        "ark backup-location create l --provider aws --bucket b --prefix /p/ \
         --config region=r,s3Url=https://s3.example.com:9000 --credential secret=cloud --default \
         --access-mode ReadOnly --backup-sync-period 0 --validation-frequency 5m --labels a=b"
    ));
}

#[test]
fn schedule_options_end_up_in_the_object() {
    insta::assert_snapshot!(created(
        "ark schedule create s --schedule @daily --timezone Europe/Berlin --spread 30m --paused \
         --skip-immediately --use-owner-references-in-backup=false --keep-last 1 --keep-hourly 2 \
         --keep-daily 3 --keep-weekly 4 --keep-monthly 5 --keep-yearly 6 --labels a=b --annotations c=d \
         --include-namespaces shop --ttl 72h"
    ));
}
