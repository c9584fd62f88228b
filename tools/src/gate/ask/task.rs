//! The task of an agent: its steps, and the calls of tools in them.

use bellwether_gate::dataset::Case;
use bellwether_gate::observation::{MissingAnswer, Scored};
use bellwether_gate::score::tools::{Call, summarize};
use bellwether_gate::suite::Gate;
use bellwether_gate::text::fingerprint;
use serde_json::json;

use super::lacking::lacks;
use super::{CaseRunner, Trial, add_usage};
use crate::gate::client::{EndpointClient, TimedReply, Unanswered};
use crate::gate::wire::request::opening;

impl CaseRunner<'_> {
    /// Runs an agent's task: answers its calls of tools with the results of the case, until the agent calls none or has
    /// used up the gate's steps. A step without an answer makes the task missing, unless the agent has called a
    /// forbidden tool before: that has happened.
    pub(super) async fn run_task(
        &self,
        gate: &Gate,
        case: &Case,
        client: &EndpointClient,
        trial: &mut Trial,
    ) -> Result<Scored, Unanswered> {
        let mut messages = opening(gate.system.as_deref(), case);
        let mut calls: Vec<Call> = Vec::new();
        let mut sum = Scored::default();
        let (mut steps, mut ended) = (0, false);
        while steps < gate.max_steps && !ended && sum.lacking.is_none() {
            steps += 1;
            let timed = match self.step(gate, case, client, &messages, trial).await {
                Ok(timed) => timed,
                Err(Unanswered::Missing { why, .. }) if has_forbidden(case, &calls) => {
                    sum.lacking = Some(why);
                    break;
                }
                Err(unanswered) => return Err(unanswered),
            };
            add_usage(&mut sum, &timed);
            trial.output.clone_from(&timed.reply.text);
            messages.push(timed.reply.message(client.dialect().return_thinking));
            sum.lacking = timed.reply.lacking();
            ended = timed.reply.calls.is_empty();
            for called in timed.reply.calls {
                let result =
                    case.tool_results.get(&called.call.name).map_or("error: there is no such tool", String::as_str);
                messages.push(json!({ "role": "tool", "tool_call_id": called.id, "content": result }));
                calls.push(called.call);
            }
        }
        let answered = ended && sum.lacking.is_none();
        sum.tools = Some(summarize(case, &calls, steps, ended || sum.lacking.is_some()));
        sum.fingerprint = fingerprint(&trial.output);
        if gate.measures("solved") {
            let output = trial.output.clone();
            sum.right = Some(answered && self.is_right(gate, case, &output, trial).await?);
        }
        Ok(sum)
    }

    /// Sends one step of a task. The refusal of a content filter is an answer; a step that says nothing or is cut off is
    /// none.
    async fn step(
        &self,
        gate: &Gate,
        case: &Case,
        client: &EndpointClient,
        messages: &[serde_json::Value],
        trial: &mut Trial,
    ) -> Result<TimedReply, Unanswered> {
        let timed = self.send(gate, client, messages, &case.tools, trial).await?;
        match timed.reply.lacking() {
            None | Some(MissingAnswer::Filtered) => Ok(timed),
            Some(why) => Err(lacks(&timed.reply, why)),
        }
    }
}

fn has_forbidden(case: &Case, calls: &[Call]) -> bool {
    calls.iter().any(|call| case.forbid_tools.contains(&call.name))
}
