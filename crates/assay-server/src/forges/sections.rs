//! What a pull request is told of the images that it asks for: a section each, beside its recipe's in the same comment.

use std::collections::BTreeMap;

use assay_forge::Login;
use assay_forge::comment::{About, Standing};
use assay_store::{ForgeImage, ForgePull, StoreError};

use super::answer::Instead;
use super::images::{LATEST, Meanwhile};
use super::tell::{self, Asker};
use crate::state::App;

/// A section for each image, as it was asked for latest; and whether that is the end of it.
pub(super) async fn of_pull(app: &App, pull: &ForgePull) -> Result<Vec<(About, bool)>, StoreError> {
    let mut newest: BTreeMap<String, ForgeImage> = BTreeMap::new();
    for image in app.engine.store().forge_images_of(&pull.key, LATEST).await? {
        newest.entry(image.image.clone()).or_insert(image);
    }
    let mut sections = Vec::new();
    for image in newest.values() {
        sections.extend(of_image(app, image).await?);
    }
    Ok(sections)
}

/// None where there is nothing to say.
pub(super) async fn of_image(app: &App, image: &ForgeImage) -> Result<Option<(About, bool)>, StoreError> {
    let author: Option<Login> = image.author.as_deref().and_then(|author| author.parse().ok());
    let of = format!("image {}", image.image);
    if let Some(run) = app.engine.store().view(image.run).await? {
        let asker =
            Asker { pull: image.pull.pull.unsigned_abs(), author: author.as_ref(), asked: &image.said };
        let about = tell::of_view(app, &asker, &run, &[]).await?;
        return Ok(Some((About { of, ..about }, tell::is_over(&run))));
    }
    let Some(stage) = standing(&image.standing) else { return Ok(None) };
    let about = About {
        instance: app.shared.forges.instance.clone(),
        number: image.pull.pull.unsigned_abs(),
        commit: image.head.clone(),
        run: None,
        of,
        asked_by: author,
        asked: image.said.clone(),
        stage,
        at: app.engine.now(),
        notes: Vec::new(),
    };
    // Whatever comes next says so by itself.
    Ok(Some((about, true)))
}

fn standing(stored: &str) -> Option<Standing> {
    Some(match serde_json::from_str(stored).ok()? {
        Meanwhile::Soon => Standing::Awaits { why: "It is about to be looked at.".to_owned() },
        Meanwhile::Word { who, who_may } => {
            let who = who.map_or_else(|| "whoever pushed it".to_owned(), |who| who.to_string());
            let why = format!(
                "{who} may not ask for runs here. One of those who may ({who_may}) says !testme for it."
            );
            Standing::Awaits { why }
        }
        Meanwhile::Medium { file } => Standing::Awaits {
            why: format!("For its medium: {file} is not there yet, or still being written."),
        },
        Meanwhile::Cancelled { by } => Standing::Cancelled { by: Some(by) },
        Meanwhile::Instead(Instead::Refused { refused, .. }) => Standing::Refused(refused),
        Meanwhile::Instead(Instead::Error { what, next_step }) => {
            Standing::Error { what, next_step, is_retried: false }
        }
    })
}
