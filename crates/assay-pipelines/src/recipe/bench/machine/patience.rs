//! Time in a machine that is emulated in software: everything takes several times as long, and that is not the recipe's doing.

use std::time::Duration;

use assay_recipe::compose::model::Compose;

/// How many times as long anything is waited for.
pub(super) const EMULATED: u32 = 4;
/// What the processor of such a machine calls itself.
const PROCESSOR: &str = "QEMU TCG CPU";

/// How patient a bench is with what it tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Patience {
    /// As the recipe says.
    #[default]
    Usual,
    /// The processor is emulated.
    Emulated,
}

impl Patience {
    /// That of a bench in a machine: this is called in there.
    pub(in super::super) fn here() -> Self {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if processors.contains(PROCESSOR) { Self::Emulated } else { Self::Usual }
    }

    /// Gives health checks more time; what was changed, for people.
    pub(in super::super) fn with_health(self, compose: &mut Compose) -> Option<String> {
        if self == Self::Usual {
            return None;
        }
        let checks = compose.services.values_mut().filter_map(|service| service.healthcheck.as_mut());
        let mut changed = false;
        for check in checks {
            for span in [&mut check.timeout, &mut check.start_period] {
                changed |= span.is_some();
                *span = span.map(|span: Duration| span * EMULATED);
            }
        }
        changed.then(|| format!("health checks have {EMULATED} times as long, in software emulation"))
    }
}

#[cfg(test)]
mod tests {
    use assay_recipe::compose::model::{Healthcheck, Service};

    use super::*;

    #[test]
    fn health_checks_have_longer_where_everything_takes_longer() {
        let timeout = Some(Duration::from_secs(5));
        let health = Healthcheck { timeout, interval: timeout, ..Healthcheck::default() };
        let service = Service { healthcheck: Some(health), ..Service::default() };
        let mut compose = Compose { services: [("app".to_owned(), service)].into(), ..Compose::default() };
        assert_eq!(Patience::Usual.with_health(&mut compose), None);
        let told = Patience::Emulated.with_health(&mut compose);
        assert_eq!(told.as_deref(), Some("health checks have 4 times as long, in software emulation"));
        let health = compose.services["app"].healthcheck.as_ref().unwrap();
        assert_eq!((health.timeout, health.interval), (Some(Duration::from_secs(20)), timeout));
        assert_eq!(health.start_period, None);
    }
}
