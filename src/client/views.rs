//! From view to view: what a client does when a member speaks of a view that is not proved here.
//!
//! Source: `api/openapi.json`; design, 'views'. In: pages of the view chain. Out: a chain that was
//! walked on.
//! Holds: each page is walked before the next is asked for, so a liar costs one page.
//! Elsewhere: what a step must show (`blocks::view_chain`), who is believed (`rules`).

use super::rules::Rules;
use super::transport::{AskError, Transport};
use crate::api::{Answers, Settled};
use crate::blocks::{Step, ViewChain};
use crate::crypto::Verifier;

/// Walks `chain` on to the newest view that `member` can prove.
///
/// Errors: [`AskError`]; what was walked until then stays.
pub async fn walk_views(
    chain: &mut ViewChain,
    transport: &dyn Transport,
    member: usize,
) -> Result<(), AskError> {
    loop {
        let next = chain.newest().view.id().next();
        let page = transport.views(member, next).await?;
        let steps: Vec<Step> = page.views.into_iter().map(|entry| entry.step).collect();
        if steps.is_empty() {
            return match page.newest < next {
                true => Ok(()),
                false => Err(AskError::Malformed(format!(
                    "it speaks of view {} and does not show how view {next} came about",
                    page.newest
                ))),
            };
        }
        let walked = chain.walk(&steps, &Verifier::ed25519());
        walked.map_err(|error| AskError::Malformed(error.to_string()))?;
    }
}

/// Learns from `member` what follows the newest view that is proved.
///
/// Errors: [`AskError`], no problem among them; what was walked until then is learned.
pub(super) async fn follow(
    rules: &Rules,
    transport: &dyn Transport,
    member: usize,
) -> Result<(), AskError> {
    let Some(mut chain) = rules.proved() else {
        return Ok(());
    };
    let walked = walk_views(&mut chain, transport, member).await;
    rules.learn(chain);
    // A member that does not show its views refuses nothing of what was submitted.
    walked.map_err(|error| match error {
        AskError::Problem(problem) => AskError::Malformed(problem.message.clone()),
        AskError::Broken(_) | AskError::Silent | AskError::Malformed(_) => error,
    })
}

/// Whether `answers` come from a view that is not proved here, as far as they tell.
pub(super) fn is_ahead(rules: &Rules, answers: &Answers) -> bool {
    let settled = answers.transactions.iter().filter_map(|one| match one {
        Settled::Done(submitted) => Some(submitted),
        Settled::Refused(_) => None,
    });
    let replies = settled.clone().filter_map(|one| one.reply.as_ref());
    let certificates = settled.filter_map(|one| one.certificate.as_ref());
    let mut certificates = certificates.chain(&answers.certificate);
    certificates.any(|held| rules.is_behind(held.ballot.view)) || { replies }
        .any(|reply| !rules.sits(&reply.member))
}
