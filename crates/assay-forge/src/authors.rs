//! Who may ask for runs: people on a list, members of organisations, members of teams.
//!
//! Membership is asked with a call that needs only to read, and the answer is believed for a while. Deciding is pure: where
//! the answer is not known it says which question to put. A refused author is told once per pull request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use assay_model::Micros;
use serde::{Deserialize, Serialize};

use crate::error::ForgeError;
use crate::forge::Forge;
use crate::name::{Login, Name, RepoName};
use crate::what::Membership;

/// Who belongs is believed to belong for so long: a person who has left can ask until then.
const MEMBER_FOR: Micros = Micros::seconds(600);
/// Who does not belong may have been invited a minute ago.
const STRANGER_FOR: Micros = Micros::seconds(60);
/// Answers that are remembered.
const MOST_ANSWERS: usize = 4096;
/// Of one pull request, so many strangers are told.
const MOST_TOLD: usize = 10;
/// Pull requests for which it is remembered who was told.
const MOST_PULLS: usize = 2000;

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// These people.
    pub people: Vec<Login>,
    /// Members of these organisations.
    pub organisations: Vec<Name>,
    /// Members of these teams: organisation and team.
    pub teams: Vec<(Name, Name)>,
    /// Members of the organisation that the repository belongs to.
    pub owners_members: bool,
}

/// A question for the forge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Question {
    /// Of an organisation?
    Organisation(Name),
    /// Of a team?
    Team(Name, Name),
}

/// What is known about an author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// May ask.
    Allowed,
    /// May not.
    Refused,
    /// The forge has to be asked this first.
    Ask(Question),
}

/// Answers of the forge, and who was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authors {
    /// A list, since its key is no text.
    answers: Vec<Answer>,
    told: BTreeMap<String, Told>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answer {
    question: Question,
    who: String,
    belongs: bool,
    until: Micros,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    who: BTreeSet<String>,
    at: Micros,
}

impl Rules {
    /// Whether anybody may ask at all.
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
            && self.organisations.is_empty()
            && self.teams.is_empty()
            && !self.owners_members
    }

    /// The questions for a repository, cheapest first.
    fn questions(&self, repo: &RepoName) -> impl Iterator<Item = Question> {
        let owner = self.owners_members.then(|| repo.owner().clone());
        let organisations =
            owner.into_iter().chain(self.organisations.iter().cloned()).map(Question::Organisation);
        organisations.chain(self.teams.iter().map(|(org, team)| Question::Team(org.clone(), team.clone())))
    }

    /// In words, for those who may not.
    pub fn who_may(&self, repo: &RepoName) -> String {
        let mut who: Vec<String> = self.questions(repo).map(|question| question.to_string()).collect();
        match self.people.len() {
            0 => {}
            1 => who.push("one person on a list".to_owned()),
            n => who.push(format!("{n} people on a list")),
        }
        if who.is_empty() { "nobody yet".to_owned() } else { who.join(", ") }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organisation(org) => write!(f, "members of {org}"),
            Self::Team(org, team) => write!(f, "members of {org}/{team}"),
        }
    }
}

impl Authors {
    /// Whether an author may ask in a repository, as far as is known now.
    pub fn decide(&self, rules: &Rules, repo: &RepoName, who: &Login, now: Micros) -> Decision {
        if rules.people.contains(who) {
            return Decision::Allowed;
        }
        let mut open = None;
        for question in rules.questions(repo) {
            match self.answer(&question, who, now) {
                Some(true) => return Decision::Allowed,
                Some(false) => {}
                None => open = open.or(Some(question)),
            }
        }
        open.map_or(Decision::Refused, Decision::Ask)
    }

    /// Takes the forge's answer to a question.
    pub fn heard(&mut self, question: &Question, who: &Login, belongs: bool, now: Micros) {
        self.answers
            .retain(|known| known.until > now && !(known.question == *question && known.who == who.key()));
        if self.answers.len() >= MOST_ANSWERS {
            self.answers.remove(0);
        }
        let until = now.plus(if belongs { MEMBER_FOR } else { STRANGER_FOR });
        self.answers.push(Answer { question: question.clone(), who: who.key(), belongs, until });
    }

    /// Whether a refused author is to be told so; remembers it.
    pub fn tell(&mut self, repo: &RepoName, number: u64, who: &Login, now: Micros) -> bool {
        let place = format!("{repo}#{number}");
        if self.told.len() >= MOST_PULLS && !self.told.contains_key(&place) {
            let oldest = self.told.iter().min_by_key(|(_, told)| told.at).map(|(place, _)| place.clone());
            self.told.remove(&oldest.unwrap_or_default());
        }
        let told = self.told.entry(place).or_default();
        told.at = now;
        told.who.len() < MOST_TOLD && told.who.insert(who.key())
    }

    fn answer(&self, question: &Question, who: &Login, now: Micros) -> Option<bool> {
        let key = who.key();
        let known = self.answers.iter().find(|known| known.who == key && known.question == *question)?;
        (known.until > now).then_some(known.belongs)
    }
}

/// Puts a question to the forge. Who is not seen does not belong: what is not public is not shown to our token.
pub async fn ask(forge: &dyn Forge, question: &Question, who: &Login) -> Result<bool, ForgeError> {
    let membership = match question {
        Question::Organisation(org) => forge.membership(org, who).await?,
        Question::Team(org, team) => forge.team_membership(org, team, who).await?,
    };
    Ok(membership == Membership::Member)
}

/// Whether an author may ask, with as many questions as it takes. What is known is locked for moments only and never while the
/// forge is asked, which may take its time. Who asks at the same moment may put the same question.
pub async fn may_ask(
    forge: &dyn Forge,
    authors: &Mutex<Authors>,
    rules: &Rules,
    repo: &RepoName,
    who: &Login,
    now: Micros,
) -> Result<bool, ForgeError> {
    loop {
        let decision = lock(authors).decide(rules, repo, who, now);
        match decision {
            Decision::Allowed => return Ok(true),
            Decision::Refused => return Ok(false),
            Decision::Ask(question) => {
                let belongs = ask(forge, &question, who).await?;
                lock(authors).heard(&question, who, belongs, now);
            }
        }
    }
}

fn lock(authors: &Mutex<Authors>) -> MutexGuard<'_, Authors> {
    authors.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Login {
        text.parse().expect("a login")
    }

    #[test]
    fn a_list_needs_no_question_and_answers_expire() {
        let repo: RepoName = "coop/plausible".parse().expect("a name");
        let rules = Rules {
            people: vec![login("Bob")],
            organisations: vec!["friends".parse().expect("a name")],
            owners_members: true,
            ..Rules::default()
        };
        let mut authors = Authors::default();
        let now = Micros::seconds(1000);
        assert_eq!(authors.decide(&rules, &repo, &login("bob"), now), Decision::Allowed);
        let alice = login("Alice");
        let coop = Question::Organisation("coop".parse().expect("a name"));
        let friends = Question::Organisation("friends".parse().expect("a name"));
        assert_eq!(authors.decide(&rules, &repo, &alice, now), Decision::Ask(coop.clone()));
        authors.heard(&coop, &alice, false, now);
        assert_eq!(authors.decide(&rules, &repo, &alice, now), Decision::Ask(friends.clone()));
        authors.heard(&friends, &alice, true, now);
        assert_eq!(authors.decide(&rules, &repo, &login("alice"), now), Decision::Allowed);
        authors.heard(&friends, &alice, false, now);
        assert_eq!(authors.decide(&rules, &repo, &alice, now), Decision::Refused);
        assert_eq!(authors.decide(&rules, &repo, &alice, now.plus(STRANGER_FOR)), Decision::Ask(coop));
        assert_eq!(rules.who_may(&repo), "members of coop, members of friends, one person on a list");
        assert_eq!(Authors::default().decide(&Rules::default(), &repo, &alice, now), Decision::Refused);
    }

    #[test]
    fn a_refused_author_is_told_once_per_pull_request() {
        let repo: RepoName = "coop/plausible".parse().expect("a name");
        let mut authors = Authors::default();
        let now = Micros::seconds(1000);
        assert!(authors.tell(&repo, 7, &login("mallo"), now));
        assert!(!authors.tell(&repo, 7, &login("Mallo"), now));
        assert!(authors.tell(&repo, 8, &login("mallo"), now));
        let told = (0..50).filter(|n| authors.tell(&repo, 9, &login(&format!("m{n}")), now)).count();
        assert_eq!(told, MOST_TOLD);
    }
}
