//! Virtual media of a Redfish service: an image at an address, which the machine sees as a CD in a drive of its own.
//!
//! Where the drives are depends on the service's age: at the system, or at the managers that manage it. So does how an
//! image gets into one: by the action `InsertMedia`, or, where there is none, by a change of the drive itself. What is
//! in a drive is asked before and after each order. An image that somebody else inserted is never taken out: it may be
//! the one that another person installs from at this moment.

use std::fmt;

use assay_model::text;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::redfish::{Answer, Redfish};
use super::{PowerError, redfish::strings};

/// Managers and drives of one system that are looked at; real ones have one and four.
const MOST: usize = 16;

/// What can be asked about virtual media.
#[derive(Debug, Clone, Copy)]
pub(super) enum MediaAsk<'a> {
    /// Whether there is a drive for an image.
    Has,
    /// Whether this image is in one.
    Holds(&'a Url),
    /// To insert it, unless it is in already.
    Insert(&'a Url),
    /// To take it out, if it is in; whether it was.
    Eject(&'a Url),
    /// To boot from it next.
    BootNext(&'a Url),
}

/// As what the machine sees a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Cd,
    UsbStick,
}

/// A virtual drive.
struct Drive {
    place: Url,
    kind: Kind,
    seen: Answer,
}

impl MediaAsk<'_> {
    /// For sentences.
    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Has | Self::Holds(_) => "the virtual drives",
            Self::Insert(_) => "insert a medium",
            Self::Eject(_) => "eject the medium",
            Self::BootNext(_) => "boot from the medium next",
        }
    }
}

impl Redfish {
    /// Answers a question with yes or no, and follows an order; then whether there was anything to do.
    pub(super) async fn media(&self, ask: MediaAsk<'_>) -> Result<bool, PowerError> {
        let doing = ask.doing();
        let drives = self.drives(doing).await?;
        let holding = |image: &Url| drives.iter().find(|drive| drive.holds(image));
        match ask {
            MediaAsk::Has => Ok(!drives.is_empty()),
            MediaAsk::Holds(image) => Ok(holding(image).is_some()),
            MediaAsk::Insert(image) if holding(image).is_some() => Ok(false),
            MediaAsk::Insert(image) => {
                let drive = self.free(&drives, doing)?;
                self.insert(drive, image, doing).await.map(|()| true)
            }
            MediaAsk::Eject(image) => match holding(image) {
                Some(drive) => self.eject(drive, doing).await.map(|()| true),
                None => Ok(false),
            },
            MediaAsk::BootNext(image) => {
                let Some(drive) = holding(image) else {
                    let said = "the medium is not in its drive any more: somebody took it out".to_owned();
                    return Err(PowerError::Refused { bmc: self.name(), doing, said });
                };
                // `UsbCd` is what some call the virtual drive where they have a real one, too.
                let targets = match drive.kind {
                    Kind::Cd => ["UsbCd", "Cd"],
                    Kind::UsbStick => ["Usb", "Usb"],
                };
                self.boot_next(&targets, doing).await.map(|()| true)
            }
        }
    }

    /// The drives that take an image, those that are CD drives first.
    async fn drives(&self, doing: &'static str) -> Result<Vec<Drive>, PowerError> {
        let (_, system) = self.system(doing).await?;
        let mut collections: Vec<String> = place_in(&system.body["VirtualMedia"]).into_iter().collect();
        let managers = system.body["Links"]["ManagedBy"].as_array().cloned().unwrap_or_default();
        let mut drives = Vec::new();
        for manager in managers.iter().filter_map(place_in).take(MOST) {
            let manager = self.get(self.place(&manager, doing)?, doing).await?;
            collections.extend(place_in(&manager.body["VirtualMedia"]));
        }
        collections.dedup();
        for collection in collections {
            let members = self.get(self.place(&collection, doing)?, doing).await?.body;
            let members = members["Members"].as_array().cloned().unwrap_or_default();
            for member in members.iter().filter_map(place_in).take(MOST) {
                let place = self.place(&member, doing)?;
                // The same drives may be listed at the system and at its manager.
                if drives.iter().any(|drive: &Drive| drive.place == place) {
                    continue;
                }
                let seen = self.get(place.clone(), doing).await?;
                if let Some(kind) = kind(&seen.body) {
                    drives.push(Drive { place, kind, seen });
                }
            }
        }
        drives.sort_by_key(|drive| drive.kind);
        Ok(drives)
    }

    /// A drive with nothing in it.
    fn free<'d>(&self, drives: &'d [Drive], doing: &'static str) -> Result<&'d Drive, PowerError> {
        if let Some(drive) = drives.iter().find(|drive| drive.is_empty()) {
            return Ok(drive);
        }
        let bmc = self.name();
        let taken: Vec<_> = drives.iter().map(Drive::to_string).collect();
        Err(if taken.is_empty() {
            let said =
                "it has no virtual drive for a CD or a USB stick; some need a licence for virtual media";
            PowerError::Unsupported { bmc, doing, said: said.to_owned() }
        } else {
            let said = format!(
                "somebody else has inserted a medium: {}; eject it there, when nobody needs it any more",
                taken.join(", ")
            );
            PowerError::Refused { bmc, doing, said }
        })
    }

    async fn insert(&self, drive: &Drive, image: &Url, doing: &'static str) -> Result<(), PowerError> {
        let whole = json!({ "Image": image.as_str(), "Inserted": true, "WriteProtected": true });
        // Inserted and protected is what the standard says where an order says neither, and some know neither.
        let plain = json!({ "Image": image.as_str() });
        self.order(drive, "#VirtualMedia.InsertMedia", [whole.clone(), plain.clone()], [whole, plain], doing)
            .await
    }

    async fn eject(&self, drive: &Drive, doing: &'static str) -> Result<(), PowerError> {
        let whole = json!({ "Image": null, "Inserted": false });
        let plain = json!({ "Image": null });
        self.order(drive, "#VirtualMedia.EjectMedia", [json!({}), json!({})], [whole, plain], doing).await
    }

    /// By the action, or by a change of the drive where it has none; in plain words where it does not take the whole.
    async fn order(
        &self,
        drive: &Drive,
        action: &str,
        acts: [Value; 2],
        changes: [Value; 2],
        doing: &'static str,
    ) -> Result<(), PowerError> {
        let target = drive.seen.body["Actions"][action]["target"].as_str();
        let (method, place, [whole, plain], etag) = match target {
            Some(target) => (Method::POST, self.place(target, doing)?, acts, None),
            None => (Method::PATCH, drive.place.clone(), changes, drive.seen.etag.as_deref()),
        };
        let repeats = whole != plain;
        match self.exchange(method.clone(), place.clone(), Some(whole), etag, doing).await {
            Err(PowerError::Refused { said, .. }) if repeats && said.starts_with("400") => {
                tracing::debug!("{}: {said}; asking in fewer words", self.name());
                self.exchange(method, place, Some(plain), etag, doing).await.map(drop)
            }
            answer => answer.map(drop),
        }
    }
}

impl Drive {
    fn is_empty(&self) -> bool {
        let body = &self.seen.body;
        // Inserted by way of the BMC's own pages, without an address.
        let inserted = body["Inserted"].as_bool();
        inserted == Some(false) || (inserted.is_none() && self.image().is_empty())
    }

    fn holds(&self, image: &Url) -> bool {
        if self.is_empty() {
            return false;
        }
        match self.image() {
            // Some tell the file's name alone.
            "" => {
                let name = self.seen.body["ImageName"].as_str().unwrap_or_default();
                !name.is_empty()
                    && image.path_segments().and_then(|mut parts| parts.next_back()) == Some(name)
            }
            told => Url::parse(told).is_ok_and(|told| told == *image),
        }
    }

    fn image(&self) -> &str {
        self.seen.body["Image"].as_str().unwrap_or_default()
    }
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.seen.body;
        let name = body["ImageName"].as_str().filter(|name| !name.is_empty());
        let what = name.unwrap_or_else(|| self.image());
        let what = if what.is_empty() { "something that it does not name" } else { what };
        let drive = self.place.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        write!(f, "{} holds {}", text::clean_to(drive, 40), text::clean_to(what, 200))
    }
}

/// As what the machine sees it; none for what takes no image of a CD, such as a floppy drive.
fn kind(drive: &Value) -> Option<Kind> {
    let types = strings(&drive["MediaTypes"])?;
    if types.iter().any(|kind| kind == "CD" || kind == "DVD") {
        Some(Kind::Cd)
    } else {
        types.iter().any(|kind| kind == "USBStick").then_some(Kind::UsbStick)
    }
}

fn place_in(link: &Value) -> Option<String> {
    link["@odata.id"].as_str().map(str::to_owned)
}
