//! What goes wrong on purpose, and when.
//!
//! A fault strikes requests that would otherwise have been served: one without an accepted token gets its honest 401 and
//! uses nothing up, or the probe that every Git client begins with would swallow a fault meant for the push.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::StandInError;

/// The longest that [`Effect::Slow`] may last.
const LONGEST_SLOW: f64 = 3600.0;

/// A group of requests that faults are aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteClass {
    /// Git: the first and the second request of a clone or fetch.
    GitRead,
    /// Git: the first and the second request of a push.
    GitPush,
    /// Pull requests, of either forge.
    Pull,
    /// Who am I: `/user`, `/user/emails`, and the forge's first page.
    User,
    /// The device flow.
    Login,
    /// The repository itself and the deletion of branches over the API.
    Repository,
    /// Plain registration: `POST`, `PUT`, `GET /v1/nodes`.
    Register,
    /// A node says that it has joined.
    Join,
    /// Plain de-registration: `DELETE /v1/nodes/NAME`.
    Deregister,
    /// Whatever the stand-in does not know.
    Unknown,
    /// All of these. As a request's own class it does not occur.
    Any,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which requests it strikes.
    pub route: RouteClass,
    /// What happens to them.
    pub effect: Effect,
    /// How many of them; all, unless there is a number.
    #[serde(default)]
    pub times: Option<u32>,
}

/// What happens to a request. All [`Effect::Slow`] add up; of the others, the first in the plan strikes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// The request is read, and nothing happens for a while; then all goes on.
    Slow {
        /// For how long; at most an hour.
        seconds: f64,
    },
    /// The request is read, and answered with this status instead of being carried out.
    Status {
        /// 400 to 599.
        code: u16,
    },
    /// The request is read and not carried out; the connection is closed without an answer.
    DropAfterRequest,
    /// The request is carried out (the push is applied), then the connection is closed without an answer: the orphan
    /// case. Strikes only requests that changed something: on other routes a pull request, registration, join or
    /// deletion.
    DropAfterPush,
    /// The answer ends in the middle of its body, and so does the connection. An answer without a body is not sent.
    TruncateBody,
    /// The request is read and not carried out; the connection is reset (TCP RST). On a Unix socket, which knows no
    /// reset, it is closed.
    Reset,
    /// The TLS handshake shows a wrong certificate. There is no request yet: `route` has to be [`RouteClass::Any`].
    WrongCertificate {
        /// Which.
        certificate: Certificate,
    },
}

/// Ways for a certificate to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certificate {
    /// By the right authority, in date, for another host.
    OtherName,
    /// By the right authority, for the right names, until 2001.
    Expired,
    /// For the right names, in date, by an authority that nobody was told to trust.
    OtherAuthority,
}

/// Which fault of a plan; never given twice by one stand-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(pub u64);

/// A fault of the plan, and how often it has struck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveFault {
    /// Which one.
    pub id: FaultId,
    /// What it is.
    pub fault: Fault,
    /// How many requests it has struck.
    pub used: u32,
}

impl Fault {
    /// Strikes every request of the class.
    pub const fn always(route: RouteClass, effect: Effect) -> Self {
        Self { route, effect, times: None }
    }

    /// Strikes the next request of the class.
    pub const fn once(route: RouteClass, effect: Effect) -> Self {
        Self::times(route, effect, 1)
    }

    /// Strikes the next `times` requests of the class.
    pub const fn times(route: RouteClass, effect: Effect, times: u32) -> Self {
        Self { route, effect, times: Some(times) }
    }

    pub(crate) fn check(&self) -> Result<(), StandInError> {
        let problem = match self.effect {
            Effect::Slow { seconds } if !(0.0..=LONGEST_SLOW).contains(&seconds) => {
                "`seconds` is between 0 and 3600"
            }
            Effect::Status { code } if !(400..=599).contains(&code) => "`code` is between 400 and 599",
            Effect::WrongCertificate { .. } if self.route != RouteClass::Any => {
                "a handshake has no route yet: `wrong_certificate` needs the route `any`"
            }
            _ => return Ok(()),
        };
        Err(StandInError::BadConfig { field: "faults", value: format!("{:?}", self.effect), problem })
    }
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Handshake,
    Before,
    After,
}

impl Effect {
    fn moment(self) -> Moment {
        match self {
            Self::WrongCertificate { .. } => Moment::Handshake,
            Self::DropAfterPush => Moment::After,
            _ => Moment::Before,
        }
    }
}

/// What one request gets.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    pub(crate) slow: Vec<(FaultId, Duration)>,
    pub(crate) other: Option<(FaultId, Effect)>,
}

/// The plan as it is now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    next: u64,
    active: Vec<ActiveFault>,
}

impl Faults {
    pub(crate) fn add(&self, fault: Fault) -> FaultId {
        let mut plan = self.lock();
        plan.next += 1;
        let id = FaultId(plan.next);
        plan.active.push(ActiveFault { id, fault, used: 0 });
        id
    }

    pub(crate) fn remove(&self, id: FaultId) -> bool {
        let mut plan = self.lock();
        let before = plan.active.len();
        plan.active.retain(|active| active.id != id);
        plan.active.len() < before
    }

    pub(crate) fn clear(&self) {
        self.lock().active.clear();
    }

    pub(crate) fn active(&self) -> Vec<ActiveFault> {
        self.lock().active.clone()
    }

    /// What a new TLS connection is shown, if not the right certificate.
    pub(crate) fn at_handshake(&self) -> Option<(FaultId, Effect)> {
        self.strike(RouteClass::Any, Moment::Handshake).other
    }

    /// What a request gets that has been read: how slow, and what instead of being served.
    pub(crate) fn before(&self, class: RouteClass) -> Strikes {
        self.strike(class, Moment::Before)
    }

    /// What becomes of the answer to a request that changed something.
    pub(crate) fn after(&self, class: RouteClass) -> Option<(FaultId, Effect)> {
        self.strike(class, Moment::After).other
    }

    fn strike(&self, class: RouteClass, moment: Moment) -> Strikes {
        let mut strikes = Strikes::default();
        for active in &mut self.lock().active {
            let fault = active.fault;
            let aimed = fault.route == RouteClass::Any || fault.route == class;
            let left = fault.times.is_none_or(|times| active.used < times);
            if !aimed || !left || fault.effect.moment() != moment {
                continue;
            }
            if let Effect::Slow { seconds } = fault.effect {
                strikes.slow.push((active.id, Duration::try_from_secs_f64(seconds).unwrap_or_default()));
            } else if strikes.other.is_none() {
                strikes.other = Some((active.id, fault.effect));
            } else {
                continue;
            }
            active.used += 1;
        }
        strikes
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Certificate, Effect, Fault, Faults, RouteClass};

    #[test]
    fn a_fault_strikes_as_often_as_it_was_told_to_and_only_where() {
        let faults = Faults::default();
        faults.add(Fault::times(RouteClass::Pull, Effect::Status { code: 500 }, 2));
        let id = faults.add(Fault::always(RouteClass::Any, Effect::Slow { seconds: 0.5 }));
        let struck = |class| {
            let strikes = faults.before(class);
            (strikes.slow.len(), strikes.other.map(|(_, effect)| effect))
        };
        assert_eq!(struck(RouteClass::User), (1, None));
        assert_eq!(struck(RouteClass::Pull), (1, Some(Effect::Status { code: 500 })));
        assert!(faults.remove(id) && !faults.remove(id));
        assert_eq!(struck(RouteClass::Pull), (0, Some(Effect::Status { code: 500 })));
        assert_eq!(struck(RouteClass::Pull), (0, None), "both times are used up");
        assert_eq!(faults.active()[0].used, 2);
    }

    #[test]
    fn what_comes_after_a_push_and_what_comes_at_the_handshake_wait_for_their_moment() {
        let faults = Faults::default();
        let certificate = Certificate::Expired;
        faults.add(Fault::once(RouteClass::GitPush, Effect::DropAfterPush));
        faults.add(Fault::once(RouteClass::Any, Effect::WrongCertificate { certificate }));
        assert_eq!(faults.before(RouteClass::GitPush).other, None);
        assert_eq!(faults.after(RouteClass::GitPush).map(|it| it.1), Some(Effect::DropAfterPush));
        assert_eq!(faults.after(RouteClass::GitPush), None);
        assert_eq!(faults.at_handshake().map(|it| it.1), Some(Effect::WrongCertificate { certificate }));
        assert_eq!(faults.at_handshake(), None);
    }

    #[test]
    fn a_fault_reads_from_a_profile_and_nonsense_is_refused() {
        let read = |text| serde_json::from_str::<Fault>(text).map_err(|error| error.to_string());
        assert_eq!(
            read(r#"{"route": "git_push", "effect": {"status": {"code": 503}}, "times": 2}"#),
            Ok(Fault::times(RouteClass::GitPush, Effect::Status { code: 503 }, 2))
        );
        assert_eq!(
            read(r#"{"route": "any", "effect": "reset"}"#),
            Ok(Fault::always(RouteClass::Any, Effect::Reset))
        );
        assert!(read(r#"{"route": "any", "effect": "reset", "time": 2}"#).is_err());
        for wrong in [
            Fault::always(RouteClass::Any, Effect::Status { code: 200 }),
            Fault::always(RouteClass::Any, Effect::Slow { seconds: f64::NAN }),
            Fault::always(RouteClass::Any, Effect::Slow { seconds: -1.0 }),
            Fault::always(RouteClass::Pull, Effect::WrongCertificate { certificate: Certificate::OtherName }),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
