//! Lets one chore run another in the same process, with switches as one would type them.

use anyhow::Result;
use clap::Parser;

/// Runs a chore as its command line would.
pub(crate) fn chore<A: clap::Args>(args: &[&str], run: fn(&A) -> Result<()>) -> Result<()> {
    #[derive(Parser)]
    struct Line<A: clap::Args> {
        #[command(flatten)]
        options: A,
    }
    run(&Line::<A>::try_parse_from(["cargo xtask"].iter().chain(args))?.options)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_chore_is_given_its_switches_and_a_wrong_one_is_refused() {
        #[derive(clap::Args)]
        struct Made {
            #[arg(long)]
            loud: bool,
        }
        chore::<Made>(&["--loud"], |made| if made.loud { Ok(()) } else { bail!("not loud") })
            .expect("it is loud");
        chore::<Made>(&[], |made| if made.loud { Ok(()) } else { bail!("not loud") }).expect_err("it is not");
        let problem =
            chore::<Made>(&["--quiet"], |_| Ok(())).expect_err("there is no such switch").to_string();
        assert!(problem.contains("--quiet"), "{problem}");
    }
}
