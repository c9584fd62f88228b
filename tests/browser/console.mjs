// Looks at the console in a real Chromium as people do: at the sizes of a phone and of a desktop, dark and light, with and without
// scripts, signed in and not.
//
//     node tests/browser/console.mjs BASE SCREENSHOTS [ROLLOUT OPERATOR READER]
//
// BASE is the console's address and SCREENSHOTS a folder. With the id of a rollout that can be paused and the tokens of an operator, who
// may pause, resume and abort it, and of a reader, who may not, both sign in and act. It needs the packages of tests/provision in
// $BELLWETHER_CACHE/browser, and Chromium. Each fault is a line on standard output; the exit code is 1 if there is one.

import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [base, screenshots, rollout, operator, reader] = process.argv.slice(2);
const packages = createRequire(join(process.env.BELLWETHER_CACHE, 'browser', 'package.json'));
const { chromium } = packages('playwright-core');
const axe = readFileSync(packages.resolve('axe-core/axe.min.js'), 'utf8');

const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 900 } };
// The longest time until a page shows a change, in milliseconds. It is much longer than usual, since the machine may be busy.
const LIVE = 20_000;

const faults = [];
const fault = (where, text) => faults.push(`${where}: ${text}`);

// Opens a page that reports errors of the console, failed requests and requests to other hosts. `expected` are the statuses of answers
// that the visit is made for, which the browser reports as errors.
async function open(browser, name, options, expected = []) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  const page = await context.newPage();
  const is_expected = text => expected.some(status => text.includes(`status of ${status}`));
  page.on('console', line => line.type() === 'error' && !is_expected(line.text()) && fault(name, `console: ${line.text()}`));
  page.on('pageerror', error => fault(name, `script: ${error.message}`));
  page.on('request', request => {
    if (!request.url().startsWith(base) && !request.url().startsWith('data:')) fault(name, `a request to ${request.url()}`);
  });
  return page;
}

async function examine(page, name, path) {
  const answer = await page.goto(base + path, { waitUntil: 'load' });
  if (answer.status() !== 200) fault(name, `status ${answer.status()}`);
  await inspect(page, name);
}

// Checks the page that is open: its width, its accessibility, and that it has a heading.
async function inspect(page, name) {
  const [needed, present] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  if (needed > present) fault(name, `${needed} pixels wide in a window of ${present}`);
  if (await page.locator('h1').count() !== 1) fault(name, 'not one heading of the first level');
  // Where scripts are off, axe's timers are as well; the page is the same.
  if (!name.endsWith('without-scripts')) await be_accessible(page, name);
  await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

async function be_accessible(page, name) {
  // By the debugger, which needs no right from the page's Content-Security-Policy.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run());
  for (const { id, impact, nodes } of violations) {
    if (impact === 'serious' || impact === 'critical') fault(name, `${impact}: ${id}: ${nodes[0].html.slice(0, 200)}`);
  }
}

/** Returns the path of the page of a rollout's workload. */
async function history_of(rollout) {
  const answer = await fetch(`${base}/api/v1/rollouts/${rollout}`);
  return `/workloads/${(await answer.json()).workload}`;
}

async function look_at_all(browser) {
  const paths = { fleet: '/', policies: '/policies', gates: '/gates', models: '/models', letters: '/dead-letters', health: '/health' };
  if (rollout) {
    paths.rollout = `/rollouts/${rollout}`;
    paths.history = await history_of(rollout);
  }
  for (const [size, viewport] of Object.entries(SIZES)) {
    for (const colorScheme of ['light', 'dark']) {
      for (const javaScriptEnabled of [true, false]) {
        const name = `${size}-${colorScheme}${javaScriptEnabled ? '' : '-without-scripts'}`;
        const page = await open(browser, name, { viewport, colorScheme, javaScriptEnabled });
        for (const [title, path] of Object.entries(paths)) await examine(page, `${title}-${name}`, path);
        await page.context().close();
      }
    }
  }
}

async function sign_in(page, token) {
  await page.goto(`${base}/rollouts/${rollout}/act?verb=pause`);
  await page.fill('#token-text', token);
  await page.click('#token button');
}

async function give(page, verb, reason) {
  await page.goto(`${base}/rollouts/${rollout}/act?verb=${verb}`);
  await page.fill('#reason', reason);
  await page.click('#verb button');
}

// A verb without the right to it, and the words that say so.
async function refused(browser) {
  const page = await open(browser, 'refused', { viewport: SIZES.phone }, [401, 403]);
  await sign_in(page, 'no-token');
  if (!(await page.locator('[role=alert]').innerText()).includes('Not signed in')) fault('refused', 'a wrong token signs in');
  await inspect(page, 'sign-in');
  await sign_in(page, reader);
  await page.fill('#reason', 'curiosity');
  await page.click('#verb button');
  const text = await page.locator('[role=alert]').innerText();
  if (!text.includes('no right to pause')) fault('refused', `says ${text}`);
  if (await page.locator('#reason').inputValue() !== 'curiosity') fault('refused', 'the reason is lost');
  await inspect(page, 'refused');
  await page.context().close();
}

// Verbs with the right to them. Another person's page shows each without a reload.
async function obeyed(browser) {
  const watching = await open(browser, 'live', { viewport: SIZES.desktop });
  await watching.goto(`${base}/rollouts/${rollout}`);
  const page = await open(browser, 'obeyed', { viewport: SIZES.desktop });
  await sign_in(page, operator);
  await inspect(page, 'verb');
  for (const [verb, words] of [['pause', 'the meeting goes on'], ['resume', 'the meeting is over']]) {
    await give(page, verb, words);
    const sent = performance.now();
    try {
      await watching.getByText(words).first().waitFor({ timeout: LIVE });
      console.log(`${verb}: shown to another person after ${Math.round(performance.now() - sent)} ms`);
    } catch {
      fault('live', `${verb} was never shown`);
    }
    await inspect(page, `sent-${verb}`);
  }
  const cookies = await page.context().cookies();
  if (!cookies.every(cookie => cookie.httpOnly && cookie.sameSite === 'Strict')) fault('obeyed', 'a cookie is open to scripts or sites');
  await watching.context().close();
  await page.context().close();
}

// The same without scripts.
async function obeyed_without_scripts(browser) {
  const page = await open(browser, 'without-scripts', { viewport: SIZES.phone, javaScriptEnabled: false });
  await sign_in(page, operator);
  await give(page, 'abort', 'enough was seen');
  await page.locator('#sent').waitFor();
  await inspect(page, 'sent-abort-without-scripts');
  await page.context().close();
}

mkdirSync(screenshots, { recursive: true });
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage', '--disable-background-networking'],
});
try {
  await look_at_all(browser);
  if (operator) {
    await refused(browser);
    await obeyed(browser);
    await obeyed_without_scripts(browser);
  }
} finally {
  await browser.close();
}
faults.forEach(text => console.log(text));
process.exit(faults.length ? 1 : 0);
