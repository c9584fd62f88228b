//! The task of an agent: its turns, their steps, and the calls of tools in them.

use bellwether_gate::dataset::{CallRules, Case};
use bellwether_gate::observation::{MissingAnswer, ObservationKey, Scored};
use bellwether_gate::score::tools::{Call, ToolUse, UnknownArguments, forbidden, summarize};
use bellwether_gate::suite::{CallSource, Gate};
use bellwether_gate::text::fingerprint;
use serde_json::{Value, json};

use super::lacking::lacks;
use super::{CaseRunner, Message, Trial, add_usage, missing};
use crate::gate::client::{EndpointClient, TimedReply, Unanswered};
use crate::gate::traces::RunTraces;
use crate::gate::traces::inspect::InspectLog;
use crate::gate::wire::request::opening;

/// A task under way.
struct Task<'a> {
    gate: &'a Gate,
    case: &'a Case,
    client: &'a EndpointClient,
    key: &'a ObservationKey,
    /// Messages of the conversation so far.
    messages: Vec<Value>,
    /// Times and tokens of all requests so far.
    sum: Scored,
    /// Tool use of the turns so far.
    tools: ToolUse,
}

/// The calls of a turn, as far as they are known.
#[derive(Default)]
struct TurnCalls {
    /// Calls of the attempts that were answered, in their order.
    calls: Vec<Call>,
    /// Calls of attempts that failed. They were made all the same, so that a forbidden one counts.
    of_failed: Vec<Call>,
    /// Number of requests to the model; `None` if a trace does not tell it.
    steps: Option<u32>,
    /// Whether the agent gave a final answer.
    ended: bool,
}

impl TurnCalls {
    /// Returns the names of the forbidden tools that were called, also in attempts that failed.
    fn forbidden(&self, rules: &CallRules<'_>) -> Result<Vec<String>, UnknownArguments> {
        let calls: Vec<Call> = self.calls.iter().chain(&self.of_failed).cloned().collect();
        forbidden(rules, &calls)
    }

    /// Summarizes the turn. `ended` says whether its end counts as one.
    fn used(&self, rules: &CallRules<'_>, ended: bool) -> Result<ToolUse, UnknownArguments> {
        let forbidden = self.forbidden(rules)?;
        Ok(ToolUse { forbidden, ..summarize(rules, &self.calls, self.steps, ended)? })
    }
}

impl CaseRunner<'_> {
    /// Runs an agent's task, turn by turn. A turn without an answer makes the task missing, unless the agent has called a
    /// forbidden tool before: that has happened.
    pub(super) async fn run_task(
        &self,
        gate: &Gate,
        case: &Case,
        client: &EndpointClient,
        key: &ObservationKey,
        trial: &mut Trial,
    ) -> Result<Scored, Unanswered> {
        let messages = opening(gate.system.as_deref(), case);
        let tools = ToolUse::default();
        let mut task = Task { gate, case, client, key, messages, sum: Scored::default(), tools };
        let mut goes_on = true;
        for (at, rules) in case.call_rules().enumerate() {
            if !goes_on {
                // A turn that was not reached has no calls.
                task.tools.right &= rules.expect.is_empty();
                continue;
            }
            task.messages.extend(rules.prompt.map(|text| json!({ "role": "user", "content": text })));
            let mut turn = TurnCalls::default();
            let failed = self.run_turn(&mut task, at, &mut turn, trial).await.err();
            let goes_wrong =
                !task.tools.forbidden.is_empty() || turn.forbidden(&rules).is_ok_and(|names| !names.is_empty());
            match failed {
                None => {}
                Some(Unanswered::Missing { why, .. }) if goes_wrong => task.sum.lacking = Some(why),
                Some(unanswered) => return Err(unanswered),
            }
            goes_on = turn.ended && task.sum.lacking.is_none();
            let used = match turn.used(&rules, turn.ended || task.sum.lacking.is_some()) {
                Ok(used) => used,
                Err(_) if goes_wrong => ToolUse {
                    steps: turn.steps,
                    forbidden: turn.forbidden(&rules).unwrap_or_default(),
                    right: false,
                    ..ToolUse::default()
                },
                Err(unknown) => return Err(missing(MissingAnswer::Trace, &unknown.to_string())),
            };
            task.tools.add(used);
        }
        let Task { mut sum, tools, .. } = task;
        sum.tools = Some(tools);
        sum.fingerprint = fingerprint(&trial.output);
        if gate.measures("solved") {
            let output = trial.output.clone();
            sum.right = Some(goes_on && self.is_right(gate, case, &output, trial).await?);
        }
        Ok(sum)
    }

    /// Runs the turn with the number `at`, from 0, and puts its calls into `turn`, also if it has no answer.
    async fn run_turn(
        &self,
        task: &mut Task<'_>,
        at: usize,
        turn: &mut TurnCalls,
        trial: &mut Trial,
    ) -> Result<(), Unanswered> {
        match (task.gate.calls, &self.traces) {
            (CallSource::Answer, _) => self.run_steps(task, turn, trial).await,
            (CallSource::Traces, Some(traces)) => match traces.log() {
                Some(log) => replay(log, task, at, turn, trial),
                None => self.run_traced(traces, task, at, turn, trial).await,
            },
            (CallSource::Traces, None) => Err(missing(MissingAnswer::Trace, "the suite has no [traces]")),
        }
    }

    /// Answers the calls that the agent asks for with the results of the case, until it asks for none or has used up the
    /// gate's steps.
    async fn run_steps(&self, task: &mut Task<'_>, turn: &mut TurnCalls, trial: &mut Trial) -> Result<(), Unanswered> {
        let mut steps = 0;
        while steps < task.gate.max_steps && !turn.ended && task.sum.lacking.is_none() {
            steps += 1;
            turn.steps = Some(steps);
            let message = Message { messages: &task.messages, tools: &task.case.tools, traces: None };
            let timed = self.step(task.gate, task.client, message, trial).await?;
            take(task, &timed, trial);
            turn.ended = timed.reply.calls.is_empty();
            for called in timed.reply.calls {
                let result = task.case.tool_results.get(&called.call.name);
                let result = result.map_or("error: there is no such tool", String::as_str);
                task.messages.push(json!({ "role": "tool", "tool_call_id": called.id, "content": result }));
                turn.calls.push(called.call);
            }
        }
        Ok(())
    }

    /// Sends one request, which the agent answers with text, and reads the calls that it made inside from the trace. A call
    /// that it asks for as well counts, and is not answered.
    async fn run_traced(
        &self,
        traces: &RunTraces,
        task: &mut Task<'_>,
        at: usize,
        turn: &mut TurnCalls,
        trial: &mut Trial,
    ) -> Result<(), Unanswered> {
        let traces = traces.of_request(task.key, at);
        let message = Message { messages: &task.messages, tools: &task.case.tools, traces: Some(&traces) };
        let timed = match self.step(task.gate, task.client, message, trial).await {
            Ok(timed) => timed,
            Err(unanswered) => {
                turn.of_failed = traces.so_far();
                return Err(unanswered);
            }
        };
        take(task, &timed, trial);
        let traced = traces.answered().await;
        turn.of_failed = traces.so_far();
        let traced = traced.map_err(|lack| missing(MissingAnswer::Trace, &lack))?;
        turn.ended = timed.reply.calls.is_empty();
        turn.calls = traced.calls;
        turn.steps = traced.steps;
        turn.calls.extend(timed.reply.calls.into_iter().map(|called| called.call));
        Ok(())
    }

    /// Sends one request of a task. The refusal of a content filter is an answer; a step that says nothing or is cut off is
    /// none.
    async fn step(
        &self,
        gate: &Gate,
        client: &EndpointClient,
        message: Message<'_>,
        trial: &mut Trial,
    ) -> Result<TimedReply, Unanswered> {
        let timed = self.send(gate, client, message, trial).await?;
        match timed.reply.lacking() {
            None | Some(MissingAnswer::Filtered) => Ok(timed),
            Some(why) => Err(lacks(&timed.reply, why)),
        }
    }
}

/// Adds an answer to the task: its times and tokens, its text, and its message to the conversation.
fn take(task: &mut Task<'_>, timed: &TimedReply, trial: &mut Trial) {
    add_usage(&mut task.sum, timed);
    trial.output.clone_from(&timed.reply.text);
    task.messages.push(timed.reply.message(task.client.dialect().return_thinking));
    task.sum.lacking = timed.reply.lacking();
}

/// Takes a turn from the log of a recorded task.
fn replay(
    log: &InspectLog,
    task: &Task<'_>,
    at: usize,
    turn: &mut TurnCalls,
    trial: &mut Trial,
) -> Result<(), Unanswered> {
    let lack = |problem: &str| missing(MissingAnswer::Trace, problem);
    let recorded = log.task(&task.case.id, task.key.repeat);
    let recorded =
        recorded.ok_or_else(|| lack("the log of `traces.inspect` has no sample with the case's id and epoch"))?;
    let Some(of_log) = recorded.turns.get(at) else {
        return Err(lack(recorded.error.as_deref().unwrap_or("the sample in the log has fewer turns than the case")));
    };
    trial.output.clone_from(&of_log.text);
    turn.calls.clone_from(&of_log.calls);
    turn.steps = Some(of_log.steps);
    turn.ended = of_log.ended && of_log.steps > 0;
    match &recorded.error {
        Some(error) if at + 1 == recorded.turns.len() => Err(lack(error)),
        _ => Ok(()),
    }
}
