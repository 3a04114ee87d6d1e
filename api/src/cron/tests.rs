use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The next times after `after`, in UTC, without date where it is that of the one before.
fn next(expression: &str, zone: Option<&str>, after: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(expression, zone).unwrap();
    let mut now = at(after);
    (0..count)
        .map(|_| {
            now = cron.next_after(now).unwrap();
            now.to_string()
        })
        .collect()
}

fn refused(expression: &str, zone: Option<&str>) -> String {
    Cron::parse(expression, zone).unwrap_err().to_string()
}

#[test]
fn every_form_in_use_is_understood() {
    let start = "2026-03-02T00:00:30Z"; // a Monday
    for (expression, first) in [
        ("55 0 * * *", "2026-03-02T00:55:00Z"),
        ("0 1 * * *", "2026-03-02T01:00:00Z"),
        ("*/15 * * * *", "2026-03-02T00:15:00Z"),
        ("14 03 * * 6", "2026-03-07T03:14:00Z"),
        ("15 */1 * * *", "2026-03-02T00:15:00Z"),
        (" 25  7 * * * ", "2026-03-02T07:25:00Z"),
        ("0 */6 * * *", "2026-03-02T06:00:00Z"),
        ("0 0 ? * SUN", "2026-03-08T00:00:00Z"),
        ("0 0 * * 7", "2026-03-08T00:00:00Z"),
        ("0 0 1 jan-mar,Dec *", "2026-12-01T00:00:00Z"),
        ("10-20/5,50 5/9 * * mon-fri", "2026-03-02T05:10:00Z"),
        ("0 0 13 * fri", "2026-03-06T00:00:00Z"),
        ("0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("@hourly", "2026-03-02T01:00:00Z"),
        ("@daily", "2026-03-03T00:00:00Z"),
        ("@midnight", "2026-03-03T00:00:00Z"),
        ("@weekly", "2026-03-08T00:00:00Z"),
        ("@monthly", "2026-04-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("@every 6h", "2026-03-02T06:00:30Z"),
        ("@every  1h30m", "2026-03-02T01:30:30Z"),
        (
            "CRON_TZ=America/New_York 10 1 * * *",
            "2026-03-02T06:10:00Z",
        ),
        ("TZ=Asia/Tokyo @daily", "2026-03-02T15:00:00Z"),
        ("  CRON_TZ=UTC   0 1 * * *  ", "2026-03-02T01:00:00Z"),
    ] {
        assert_eq!(next(expression, None, start, 1), [first], "{expression}");
    }
    let zoned = next("10 1 * * *", Some("America/New_York"), start, 1);
    assert_eq!(zoned, ["2026-03-02T06:10:00Z"]);
    let both = Cron::parse("TZ=Europe/Berlin 0 1 * * *", Some("Europe/Berlin"));
    assert!(both.is_ok());
}

#[test]
fn a_mistake_is_answered_with_its_reason_and_an_example() {
    for (expression, zone, words) in [
        ("", None, "is empty"),
        ("   ", None, "is empty"),
        ("0 1 * *", None, "this one has 4"),
        ("0 0 1 * * *", None, "seconds and years"),
        ("60 1 * * *", None, "minute"),
        ("0 24 * * *", None, "0 to 23"),
        ("0 1 0 * *", None, "1 to 31"),
        ("0 1 * 13 *", None, "jan to dec"),
        ("0 1 * * 8", None, "day of the week"),
        ("0 1 * * fri-mon", None, "runs backwards"),
        ("*/0 * * * *", None, "between 1 and 59"),
        ("*/x * * * *", None, "number of steps"),
        ("+5 1 * * *", None, "does not fit the field minute"),
        ("1,,2 1 * * *", None, "does not fit the field minute"),
        ("0 1 31 2 *", None, "never due"),
        ("0 1 31 4,6,9,11 *", None, "never due"),
        ("@dayly", None, "@daily"),
        ("@daily 5", None, "nothing may follow"),
        ("@reboot", None, "is not known"),
        ("@every", None, "720h"),
        ("@every 30s", None, "one minute"),
        ("@every 999999h", None, "ten years"),
        ("every day", None, "has five fields"),
        ("CRON_TZ= 0 1 * * *", None, "names no time zone"),
        ("CRON_TZ=Europe/Berln 0 1 * * *", None, "is not a time zone"),
        ("0 1 * * *", Some("MESZ+25"), "is not a time zone"),
        (
            "TZ=UTC 0 1 * * *",
            Some("Asia/Tokyo"),
            "leave one of them out",
        ),
    ] {
        let said = refused(expression, zone);
        assert!(said.contains(words), "{expression:?}: {said}");
    }
    assert!(refused("0 1 31 2 *", None).contains("0 1 * * *"));
}

#[test]
fn a_local_time_that_occurs_twice_counts_once() {
    // Clocks in Berlin go from 03:00 back to 02:00 on the 25th of October at 01:00 UTC.
    let daily = next(
        "30 2 * * *",
        Some("Europe/Berlin"),
        "2026-10-24T12:00:00Z",
        2,
    );
    assert_eq!(daily, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    // Asked for in the second of the two hours.
    let second = next(
        "30 2 * * *",
        Some("Europe/Berlin"),
        "2026-10-25T01:10:00Z",
        1,
    );
    assert_eq!(second, ["2026-10-26T01:30:00Z"]);
}

#[test]
fn a_local_time_that_is_left_out_is_due_at_the_change() {
    // Clocks in Berlin go from 02:00 to 03:00 on the 29th of March at 01:00 UTC.
    let daily = next(
        "30 2 * * *",
        Some("Europe/Berlin"),
        "2026-03-28T12:00:00Z",
        2,
    );
    assert_eq!(daily, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    // What is due at the change anyway is due once.
    let several = next(
        "0,30 2,3 * * *",
        Some("Europe/Berlin"),
        "2026-03-29T00:30:00Z",
        3,
    );
    assert_eq!(
        several,
        [
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z",
            "2026-03-30T00:00:00Z"
        ]
    );
}

#[test]
fn what_is_due_all_day_long_follows_the_real_clock() {
    let autumn = next(
        "*/30 * * * *",
        Some("Europe/Berlin"),
        "2026-10-25T00:00:00Z",
        5,
    );
    assert_eq!(
        autumn,
        [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-25T02:00:00Z",
            "2026-10-25T02:30:00Z"
        ]
    );
    let spring = next(
        "15 * * * *",
        Some("Europe/Berlin"),
        "2026-03-29T00:00:00Z",
        3,
    );
    assert_eq!(
        spring,
        [
            "2026-03-29T00:15:00Z",
            "2026-03-29T01:15:00Z",
            "2026-03-29T02:15:00Z"
        ]
    );
}

#[test]
fn times_never_stand_still_or_go_back() {
    for zone in [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
    ] {
        for expression in ["7 * * * *", "0,59 0-4 * * *", "*/20 1,2 * * *", "0 0 * * *"] {
            let cron = Cron::parse(expression, Some(zone)).unwrap();
            let mut now = at("2026-01-01T00:00:00Z");
            while now < at("2027-01-02T00:00:00Z") {
                let next = cron.next_after(now).unwrap();
                assert!(next > now, "{zone} {expression} {now}");
                // Asked for a moment before, the same answer.
                let before = next.checked_sub(SignedDuration::from_secs(1)).unwrap();
                assert_eq!(
                    cron.next_after(before.max(now)),
                    Some(next),
                    "{zone} {expression}"
                );
                now = next;
            }
        }
    }
}

#[test]
fn the_last_of_many_due_times_is_found_without_counting_all() {
    let between = |expression: &str, after: &str, until: &str| {
        let cron = Cron::parse(expression, None).unwrap();
        cron.last_between(at(after), at(until), 100)
            .map(|(last, earlier)| (last.to_string(), earlier))
    };
    let day = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    assert_eq!(between("0 1 * * *", day.0, "2026-01-01T00:59:59Z"), None);
    assert_eq!(
        between("0 1 * * *", day.0, day.1),
        Some(("2026-01-01T01:00:00Z".to_owned(), 0))
    );
    assert_eq!(
        between("0 */6 * * *", day.0, day.1),
        Some(("2026-01-02T00:00:00Z".to_owned(), 3))
    );
    assert_eq!(
        between("* * * * *", day.0, "2030-01-01T00:00:30Z"),
        Some(("2030-01-01T00:00:00Z".to_owned(), 100))
    );
    assert_eq!(
        between("0 0 1 1 *", "1980-01-01T00:00:00Z", "2400-06-01T00:00:00Z"),
        Some(("2400-01-01T00:00:00Z".to_owned(), 100))
    );
    assert_eq!(
        between("@every 5h", day.0, day.1),
        Some(("2026-01-01T20:00:00Z".to_owned(), 3))
    );
}
