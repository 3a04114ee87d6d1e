//! One cause is said once: messages of several objects that end alike become one, with a count.
//! Pure.
//!
//! Rows and the log still tell every object.

use std::collections::HashMap;

use ark_api::results::Messages;

/// What stands between an object and what is said of it.
const COLON: &str = ": ";
/// Shorter causes are no burden.
const LONG: usize = 40;
/// Of a group, this many objects are named besides the first.
const NAMED: usize = 5;

/// Messages with each cause once.
pub(crate) fn grouped(messages: &Messages) -> Messages {
    Messages {
        ark: group(&messages.ark),
        cluster: group(&messages.cluster),
        namespaces: messages
            .namespaces
            .iter()
            .map(|(namespace, list)| (namespace.clone(), group(list)))
            .collect(),
    }
}

fn group(list: &[String]) -> Vec<String> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for cause in list.iter().flat_map(|message| causes(message)) {
        *counts.entry(cause).or_default() += 1;
    }
    // By cause: where it stands in the result, and its objects.
    let mut groups: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut order: Vec<(&str, Option<&str>)> = Vec::new();
    for message in list {
        // Of causes that equally many have, the longest, which comes first.
        let cause = causes(message)
            .filter(|cause| counts[cause] > 1)
            .reduce(|best, next| {
                if counts[next] > counts[best] {
                    next
                } else {
                    best
                }
            });
        let Some(cause) = cause else {
            order.push((message, None));
            continue;
        };
        let subject = &message[..message.len() - cause.len() - COLON.len()];
        let subjects = groups.entry(cause).or_default();
        if subjects.is_empty() {
            order.push((message, Some(cause)));
        }
        subjects.push(subject);
    }
    order
        .into_iter()
        .map(
            |(message, cause)| match cause.map(|cause| (cause, &groups[cause])) {
                Some((cause, subjects)) if subjects.len() > 1 => tell(cause, subjects),
                _ => message.to_owned(),
            },
        )
        .collect()
}

/// Endings of a message that may be a cause, the longest first.
fn causes(message: &str) -> impl Iterator<Item = &str> {
    message
        .match_indices(COLON)
        .map(|(at, colon)| &message[at + colon.len()..])
        .filter(|cause| cause.len() >= LONG)
}

fn tell(cause: &str, subjects: &[&str]) -> String {
    let more = subjects.len() - 1;
    let mut named = subjects[1..]
        .iter()
        .take(NAMED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if more > NAMED {
        named.push_str(", …");
    }
    format!("{} and {more} more ({named}): {cause}", subjects[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(list: &[&str]) -> Vec<String> {
        group(
            &list
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_cause_is_said_once() {
        let why = "the webhook check.example.org does not answer: connection refused";
        let a = format!("pods web/a: volume data: {why}");
        let b = format!("pods web/b: volume data: {why}");
        let c = format!("deployments.apps web/c: {why}");
        let other = "pods web/d: no room";
        assert_eq!(
            run(&[&a, other, &b, &c]),
            [
                format!(
                    "pods web/a: volume data and 2 more (pods web/b: volume data, deployments.apps web/c): {why}"
                ),
                other.to_owned(),
            ]
        );
        let many: Vec<String> = (0..9).map(|n| format!("pods web/{n}: {why}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let told = run(&many);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("and 8 more (") && told[0].contains(", …)"),
            "{told:?}"
        );
    }

    #[test]
    fn single_and_short_messages_stay() {
        let list = [
            "pods web/a: no room",
            "pods web/b: no room",
            "a sentence without an object",
            "a sentence without an object",
            "pods web/c: a cause that nobody else has, as long as it may well be",
        ];
        assert_eq!(run(&list), list);
    }
}
