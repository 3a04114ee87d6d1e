//! One attempt at a restore, from the fetched backup to the verdict.
//!
//! Order: definitions (established before anything of theirs), namespaces, what pods need, pods
//! with their gates, volumes and whatever does not wait for them, then the controllers that do,
//! last what decides about other objects. Objects of one resource are applied in parallel.
//!
//! Fails only where going on makes no sense; everything else is a row. Idempotent: a later attempt
//! recognises what this one made. It may be dropped at any point.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ark_api::annotation;
use ark_api::condition::reason;
use ark_api::results::ItemAction;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::before::{self, Before};
use super::cancel;
use super::disks::{self, Disks};
use super::lacking;
use super::plan::{OwnerKey, Plan, owner_key};
use super::pods::Pods;
use super::report::{Report, about};
use super::settle::{self, Made};
use super::validate::Order;
use super::volumes::Common;
use crate::apply::order::{CLAIMS, CRDS, JOBS, NAMESPACES, PODS, Stage, VOLUMES, stage};
use crate::apply::run::{Applier, Outcome};
use crate::apply::transform::{self, Binding};
use crate::apply::volumes::gate::{self, Hold};
use crate::apply::volumes::stock::LackKind;
use crate::bundle::read::{Entry, Spool};
use crate::error::{Error, Result};
use crate::run_log::About;

/// Objects of one resource applied at the same time.
const PARALLEL: usize = 16;
/// How long a definition may take to be established and served.
const ESTABLISHED: Duration = Duration::from_secs(30);
/// How long a namespace may take to go away before it is made again.
const TERMINATING: Duration = Duration::from_mins(10);

/// Everything one attempt works with.
pub(crate) struct Run<'a> {
    /// What volumes have in common; also context, restore and report.
    pub(crate) common: Common<'a>,
    /// What the user wants.
    pub(crate) order: &'a Order,
    /// What is restored.
    pub(crate) plan: &'a Plan,
    /// Its objects.
    pub(crate) spool: &'a Spool,
    /// Applies them.
    pub(crate) applier: &'a Applier,
    /// What became of claims, by their names in the backup.
    pub(crate) claims: Mutex<HashMap<(String, String), ItemAction>>,
    /// Which disks claims get; known once namespaces are there.
    pub(crate) disks: OnceLock<Disks>,
    /// Controllers that were there before; known once namespaces are there.
    pub(crate) before: OnceLock<Before>,
    /// Controllers that were made.
    pub(crate) made: Mutex<Vec<Made>>,
    /// Held while an object is sent, so that a cancelled restore knows what became of each.
    pub(crate) sending: tokio::sync::RwLock<()>,
}

/// Says what the plan leaves out.
pub(crate) fn foreword(report: &Report, spool: &Spool, plan: &Plan, order: &Order) {
    for rejected in spool.rejected() {
        report.log.error(
            About::Ark,
            format!("the bundle's entry {:?} {}", rejected.path, rejected.reason),
        );
    }
    for (resource, count) in &plan.never {
        report.log.info(format!(
            "{count} {resource} are left out: they are never restored"
        ));
    }
    for row in &plan.skipped {
        let namespace = order.mapping.get(&row.namespace).unwrap_or(&row.namespace);
        report.row(
            &row.resource,
            namespace,
            &row.name,
            ItemAction::Skipped,
            &row.why,
            false,
        );
    }
    for (namespace, pod) in &plan.hooked {
        report.log.error(
            about(namespace),
            format!("pods {namespace}/{pod}: its annotations ask for restore hooks, which this version cannot run"),
        );
    }
    let total = i32::try_from(plan.len()).unwrap_or(i32::MAX);
    report.live(|live| live.progress.total_items = total);
    report
        .log
        .info(format!("{total} of {} objects are restored", spool.len()));
}

impl<'a> Run<'a> {
    /// The report.
    pub(crate) fn report(&self) -> &'a Report {
        self.common.report
    }

    /// Restores everything.
    pub(crate) async fn everything(&self) -> Result<()> {
        self.definitions().await;
        self.namespaces().await?;
        let before = before::look(self).await?;
        let disks = disks::prepare(self).await?;
        let (before, disks) = (self.before.set(before), self.disks.set(disks));
        if before.is_err() || disks.is_err() {
            return Err(Error::Bug("a run was started twice".to_owned()));
        }
        if self.plan.entries(VOLUMES).is_empty() {
            disks::apply(self, self.disks(), &[]).await;
        }
        for (resource, entries) in self.stage(Stage::BeforePods) {
            if resource == VOLUMES {
                disks::apply(self, self.disks(), entries).await;
            } else {
                self.resource(resource, entries, None).await;
            }
        }
        lacking::tell(self).await;
        let mut pods = Pods::prepare(self).await?;
        let held = pods.held(self);
        pods.apply_wave(self, 0).await;
        // What does not wait for volumes is applied while they are filled.
        let others = async {
            for (resource, entries) in self.stage(Stage::AfterPods) {
                self.resource(resource, entries, Some((&held, false))).await;
            }
        };
        let (filled, ()) = futures::join!(pods.fill(self, 0), others);
        filled?;
        for wave in 1..pods.waves() {
            pods.apply_wave(self, wave).await;
            pods.fill(self, wave).await?;
        }
        self.waiting(&held, &pods).await;
        settle::everything(self, &pods).await;
        for (resource, entries) in self.stage(Stage::Last) {
            self.resource(resource, entries, None).await;
        }
        Ok(())
    }

    fn stage(&self, wanted: Stage) -> impl Iterator<Item = (&'a str, &'a [Entry])> {
        self.plan
            .resources
            .iter()
            .filter(move |(resource, _)| stage(resource) == wanted)
            .map(|(resource, entries)| (resource.as_str(), entries.as_slice()))
    }

    /// Applies objects of one resource. With owners given, only those that are (`true`) or are not
    /// (`false`) among them.
    async fn resource(
        &self,
        resource: &str,
        entries: &[Entry],
        owners: Option<(&BTreeSet<OwnerKey>, bool)>,
    ) {
        futures::stream::iter(entries)
            .for_each_concurrent(PARALLEL, async |entry| {
                let Some(object) = self.load(resource, entry) else {
                    return;
                };
                if let Some((owners, among)) = owners
                    && owners.contains(&owner_key(&object)) != among
                {
                    return;
                }
                let binding = self.binding(resource, entry);
                let object = transform::restored(resource, object, self.applier.rules(), binding);
                if resource == CLAIMS {
                    self.claim_of(entry, object, binding).await;
                } else {
                    self.apply(resource, Some(entry), object, binding).await;
                }
            })
            .await;
    }

    /// Applies a claim, unless an application that lives would get it before it is full.
    async fn claim_of(&self, entry: &Entry, mut object: Value, binding: Binding) {
        let key = (entry.namespace.clone(), entry.name.clone());
        let awaits = binding != Binding::Same && self.expects_data(&key);
        let user = self.before().user(&key.0, &key.1);
        let user = user.filter(|_| awaits && !self.disks().exists(&key));
        let outcome = if let Some(user) = user {
            let outcome = Outcome::failed(format!(
                "not made: {user} was there before, and its pods would use the claim before it is full; delete \
                 {user} and restore again, or make the claim yourself"
            ));
            let namespace = self.target(&entry.namespace);
            self.write(CLAIMS, namespace, &entry.name, &outcome);
            outcome
        } else {
            let claim = self.plan.claims.get(&key);
            if awaits || claim.is_some_and(|claim| claim.lack.is_none()) {
                transform::mark(&mut object, annotation::AWAITS_DATA, &self.applier.uid);
            }
            self.apply(CLAIMS, Some(entry), object, binding).await
        };
        self.claims().insert(key, outcome.action);
    }

    /// Whether an application is not meant to get a claim as it is when it is made: the backup
    /// holds its files, or should.
    fn expects_data(&self, key: &(String, String)) -> bool {
        let claim = self.plan.claims.get(key);
        claim.is_some_and(|claim| match &claim.lack {
            None => true,
            Some(lack) => lack.kind >= LackKind::Unprotected && !self.order.accept_missing,
        })
    }

    /// Which disks claims get.
    pub(crate) fn disks(&self) -> &Disks {
        self.disks.get_or_init(Disks::default)
    }

    /// Controllers that were there before.
    pub(crate) fn before(&self) -> &Before {
        self.before.get_or_init(Before::default)
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<(String, String), ItemAction>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What became of a claim; created means by this restore. `None` if it is not part of it.
    pub(crate) fn claim(&self, namespace: &str, claim: &str) -> Option<ItemAction> {
        let key = (namespace.to_owned(), claim.to_owned());
        self.claims().get(&key).copied()
    }

    /// Whether no application has had a claim yet: this restore made it, or an earlier one did and
    /// never filled it.
    pub(crate) fn is_fresh(&self, namespace: &str, claim: &str) -> bool {
        let key = (namespace.to_owned(), claim.to_owned());
        match self.claim(namespace, claim) {
            Some(ItemAction::Created) => true,
            Some(ItemAction::Kept | ItemAction::Changed) => {
                self.disks().awaits_data(&key) && self.before().user(namespace, claim).is_none()
            }
            _ => false,
        }
    }

    fn binding(&self, resource: &str, entry: &Entry) -> Binding {
        if resource != CLAIMS {
            return Binding::default();
        }
        let key = (entry.namespace.clone(), entry.name.clone());
        self.disks().binding(&key)
    }

    /// Reads an object; one that cannot be read is a row.
    pub(crate) fn load(&self, resource: &str, entry: &Entry) -> Option<Value> {
        match self.spool.load(resource, entry) {
            Ok(object) => Some(object),
            Err(error) => {
                let namespace = self.target(&entry.namespace);
                self.write(
                    resource,
                    namespace,
                    &entry.name,
                    &Outcome::failed(error.sentence()),
                );
                None
            }
        }
    }

    /// Where objects of `namespace` go.
    pub(crate) fn target<'b>(&'b self, namespace: &'b str) -> &'b str {
        self.order
            .mapping
            .get(namespace)
            .map_or(namespace, String::as_str)
    }

    /// Applies one object, ready as it is, and writes its row. `entry` is its origin in the bundle.
    pub(crate) async fn apply(
        &self,
        resource: &str,
        entry: Option<&Entry>,
        object: Value,
        binding: Binding,
    ) -> Outcome {
        let namespace = transform::text(&object, "/metadata/namespace")
            .unwrap_or_default()
            .to_owned();
        let name = transform::name(&object).to_owned();
        let _sending = self.sending.read().await;
        let outcome = if self.common.stop.wish.is_cancelled() {
            Outcome::new(ItemAction::Skipped, cancel::WHY)
        } else {
            self.send(resource, entry, object, binding).await
        };
        self.note(resource, &outcome);
        self.write(resource, &namespace, &name, &outcome);
        outcome
    }

    async fn send(
        &self,
        resource: &str,
        entry: Option<&Entry>,
        object: Value,
        binding: Binding,
    ) -> Outcome {
        let original = match entry.map(|entry| self.spool.document(resource, entry)) {
            None => None,
            Some(Ok(document)) => Some(document),
            Some(Err(error)) => return Outcome::failed(error.sentence()),
        };
        self.applier
            .apply(resource, object, original.as_ref(), binding)
            .await
    }

    /// Remembers a controller that was made.
    fn note(&self, resource: &str, outcome: &Outcome) {
        if let Some(made) = outcome.own.as_ref().and_then(|own| Made::of(resource, own)) {
            self.made
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(made);
        }
    }

    /// Writes the row of one item.
    pub(crate) fn write(&self, resource: &str, namespace: &str, name: &str, outcome: &Outcome) {
        let Outcome {
            action,
            message,
            warn,
            lost,
            own: _,
        } = outcome;
        self.report()
            .row(resource, namespace, name, *action, message, *warn);
        if let Some(lost) = lost {
            self.report().lost(resource, namespace, name, lost);
        }
        self.report().done();
    }

    /// Applies definitions, and waits until the cluster serves what they define.
    async fn definitions(&self) {
        let entries = self.plan.entries(CRDS);
        if entries.is_empty() {
            return;
        }
        self.resource(CRDS, entries, None).await;
        let api: Api<CustomResourceDefinition> = Api::all(self.applier.client.clone());
        futures::stream::iter(entries)
            .for_each_concurrent(PARALLEL, async |entry| {
                let established =
                    await_condition(api.clone(), &entry.name, conditions::is_crd_established());
                let served = async {
                    established.await.map_err(|error| error.to_string())?;
                    self.served(&entry.name).await
                };
                let why = match tokio::time::timeout(ESTABLISHED, served).await {
                    Ok(Ok(())) => return,
                    Ok(Err(why)) => why,
                    Err(_) => format!("not within {} seconds", ESTABLISHED.as_secs()),
                };
                self.report().log.error(
                    About::Cluster,
                    format!("{CRDS} {} was not established: {why}", entry.name),
                );
            })
            .await;
    }

    /// Waits until discovery shows a resource.
    async fn served(&self, resource: &str) -> Result<(), String> {
        loop {
            self.applier.served.forget().await;
            match self.applier.served.resolve(resource, "").await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Makes every namespace that objects go to, as it was or, if the backup does not hold it,
    /// bare.
    async fn namespaces(&self) -> Result<()> {
        let mut wanted: BTreeMap<String, (Value, Option<&Entry>)> = BTreeMap::new();
        for entry in self.plan.entries(NAMESPACES) {
            if let Some(object) = self.load(NAMESPACES, entry) {
                let rules = self.applier.rules();
                let object = transform::restored(NAMESPACES, object, rules, Binding::default());
                wanted
                    .entry(transform::name(&object).to_owned())
                    .or_insert((object, Some(entry)));
            }
        }
        for namespace in &self.plan.namespaces {
            let target = self.target(namespace);
            wanted.entry(target.to_owned()).or_insert_with(|| {
                let bare = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": target } });
                (bare, None)
            });
        }
        futures::stream::iter(wanted)
            .for_each_concurrent(PARALLEL, async |(name, (object, entry))| {
                self.leave(&name).await;
                self.apply(NAMESPACES, entry, object, Binding::default())
                    .await;
            })
            .await;
        self.report().live(|live| live.waiting = None);
        Ok(())
    }

    /// Waits for a namespace that is going away.
    async fn leave(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.applier.client.clone());
        let leaving = match api.get_opt(name).await {
            Ok(Some(namespace)) if namespace.metadata.deletion_timestamp.is_some() => namespace,
            // An error shows again when it is applied.
            _ => return,
        };
        let message = format!("namespace {name} is being deleted");
        self.report().log.info(format!("waiting: {message}"));
        self.report()
            .live(|live| live.waiting = Some((reason::NAMESPACE_TERMINATING, message)));
        let uid = leaving.metadata.uid.unwrap_or_default();
        let gone = await_condition(api, name, conditions::is_deleted(&uid));
        if tokio::time::timeout(TERMINATING, gone).await.is_err() {
            let seconds = TERMINATING.as_secs();
            self.report().log.warn(
                about(name),
                format!("namespace {name} did not go away within {seconds} seconds"),
            );
        }
    }

    /// Applies the controllers that waited for volumes; without replicas where a volume failed.
    async fn waiting(&self, held: &BTreeSet<OwnerKey>, pods: &Pods) {
        let failed: HashMap<OwnerKey, String> = pods.failures(self);
        for (resource, entries) in self.stage(Stage::AfterPods) {
            if resource == PODS {
                continue;
            }
            futures::stream::iter(entries)
                .for_each_concurrent(PARALLEL, async |entry| {
                    // Objects that cannot be read have their row already.
                    let Ok(object) = self.spool.load(resource, entry) else {
                        return;
                    };
                    let key = owner_key(&object);
                    if !held.contains(&key) {
                        return;
                    }
                    let rules = self.applier.rules();
                    let binding = Binding::default();
                    let stored = (resource == JOBS && pods.made_for(&key)).then(|| object.clone());
                    let mut object = transform::restored(resource, object, rules, binding);
                    if let Some(stored) = stored {
                        transform::keep_pods(&stored, &mut object);
                    }
                    // What was there before is never held back.
                    let why = failed.get(&key).filter(|_| !self.before().is_living(&key));
                    match why {
                        None => drop(self.apply(resource, Some(entry), object, binding).await),
                        Some(why) => self.hold(resource, entry, object, why).await,
                    }
                })
                .await;
        }
    }

    /// Applies a controller so that it makes no pods.
    pub(super) async fn hold(&self, resource: &str, entry: &Entry, mut object: Value, why: &str) {
        let namespace = transform::text(&object, "/metadata/namespace")
            .unwrap_or_default()
            .to_owned();
        let name = transform::name(&object).to_owned();
        let hold = gate::hold(resource, &mut object, &self.applier.uid);
        let text = match hold {
            Hold::Idle => None,
            Hold::NoReplicas(replicas) => Some(format!(
                "applied with no replicas instead of {replicas}, because {why}; \
                 set them again once the data is there"
            )),
            Hold::Suspended => Some(format!(
                "applied suspended, because {why}; resume it once the data is there"
            )),
            Hold::Impossible => {
                let message = format!(
                    "not applied, because {why}, and its pods would start with empty volumes"
                );
                self.write(resource, &namespace, &name, &Outcome::failed(message));
                return;
            }
        };
        let mut outcome = self
            .send(resource, Some(entry), object, Binding::default())
            .await;
        if let Some(text) = text
            && outcome.own.is_some()
        {
            outcome.message = text;
            outcome.warn = true;
        }
        self.note(resource, &outcome);
        self.write(resource, &namespace, &name, &outcome);
    }
}
