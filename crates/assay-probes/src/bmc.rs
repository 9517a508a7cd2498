//! The management controller, asked through the machine itself.

use assay_model::host::inventory::Bmc;

use crate::Machine;
use crate::files::{entries, told};
use crate::tools::Tools;

/// `announced`: whether the firmware's tables name one; `None` when they could not be read.
pub(crate) async fn bmc(
    machine: &Machine,
    tools: &Tools<'_>,
    announced: Option<bool>,
    problems: &mut Vec<String>,
) -> Bmc {
    let device = ["dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0"].iter().any(|path| machine.path(path).exists());
    let driver = !entries(&machine.path("sys/class/ipmi")).is_empty();
    if !device {
        if announced == Some(true) || driver {
            problems.push(
                "there is a management controller, but no /dev/ipmi0: load ipmi_si and ipmi_devintf"
                    .to_owned(),
            );
            return Bmc { present: Some(true), ..Bmc::default() };
        }
        return Bmc { present: announced, ..Bmc::default() };
    }
    let info = tools.text("ipmitool", &["mc", "info"]).await;
    let lan = tools.text("ipmitool", &["lan", "print", "1"]).await;
    // `IP Address Source` stands before `IP Address`: the whole key has to fit.
    let field = |text: &Option<String>, key: &str| {
        let pairs = text.as_deref()?.lines().filter_map(|line| line.split_once(':'));
        told(pairs.into_iter().find(|(name, _)| name.trim() == key)?.1)
    };
    Bmc {
        present: Some(true),
        firmware: field(&info, "Firmware Revision"),
        ip: field(&lan, "IP Address").filter(|ip| ip != "0.0.0.0"),
        mac: field(&lan, "MAC Address").map(|mac| mac.to_lowercase()),
    }
}
