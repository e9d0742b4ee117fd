// The router's page in a headless Chromium: usage: node page.mjs URL PID-OF-A-DECODE-NODE PID-OF-THE-ROUTER OUT
// Prints `ok NAME` or `not ok NAME` a test; screenshots go to OUT.
import { createRequire } from 'node:module';
import { mkdirSync } from 'node:fs';
const { chromium } = createRequire(process.env.WEB_MODULES + '/')('playwright-core');
const [url, nodePid, routerPid, out] = process.argv.slice(2);
mkdirSync(out, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
let failed = 0;
async function t(name, f) {
  try {
    await f();
    console.log('ok ' + name);
  } catch (e) {
    failed++;
    console.log('not ok ' + name + '\n    ' + String(e.message || e).split('\n').slice(0, 12).join('\n    '));
  }
}
function check(ok, text) { if (!ok) throw new Error(text); }

// A page on which nothing may go wrong: no error, no refused script, no request to elsewhere.
async function open(options = {}, reply) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', e => page.faults.push(String(e)));
  page.on('console', m => { if (m.type() === 'error' && !/Failed to load resource/.test(m.text())) page.faults.push(m.text()); });
  page.on('request', r => { if (!r.url().startsWith(url) && !r.url().startsWith('data:')) page.faults.push(r.url()); });
  if (reply) await page.route('**/v1/cluster', r => r.fulfill({ json: reply() }));
  await page.goto(url + '/');
  await page.waitForSelector('.node');
  return page;
}
const text = (page, selector) => page.locator(selector).innerText();
const noFaults = page => check(page.faults.length === 0, page.faults.join('\n'));
// Nothing is wider than the window.
async function fits(page) {
  const [has, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  check(has <= room, `the page is ${has} px wide, the window ${room}`);
}

// Every text against what is behind it: at least 4.5 to 1, as WCAG 2.2 AA has it.
async function contrast(page) {
  const low = await page.evaluate(() => {
    const rgb = s => (s.match(/[\d.]+/g) || []).map(Number);
    const light = c => c.slice(0, 3).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
      .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => {
      for (; e; e = e.parentElement) {
        const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.length && (c.length < 4 || c[3] > 0)) return c;
      }
      return [255, 255, 255];
    };
    const found = [];
    for (const e of document.querySelectorAll('body *')) {
      const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
      if (!own || !e.getClientRects().length || e.tagName === 'SCRIPT' || e.tagName === 'STYLE' || e.closest('.stale, .gone')) continue;
      const style = getComputedStyle(e);
      const a = light(rgb(e instanceof SVGElement ? style.fill : style.color)), b = light(behind(e));
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < 4.5) found.push(`${e.tagName} "${e.textContent.slice(0, 30)}" ${ratio.toFixed(2)}`);
    }
    return found;
  });
  check(low.length === 0, 'too little contrast: ' + low.join('; '));
}

for (const [name, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['phone', { colorScheme: 'light', viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
  ['phone-dark', { colorScheme: 'dark', viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true }],
]) {
  await t(`${name}: the cluster under load`, async () => {
    const page = await open(options);
    await page.waitForFunction(() => !/^–/.test(document.querySelector('.tile b').textContent), null, { timeout: 20000 });
    await page.waitForFunction(() => document.querySelectorAll('#charts path').length >= 6, null, { timeout: 20000 });
    await page.waitForFunction(() => +document.querySelectorAll('.tile b')[2].firstChild.data > 0, null, { timeout: 20000 });
    check(await page.locator('.host').count() === 1, 'not one host');
    check((await page.locator('.node h3').allInnerTexts()).join() === 'prefill-1,decode-1,decode-2', 'not the three nodes in order');
    check(await text(page, '#state') === 'live', await text(page, '#state'));
    check(/[1-9]/.test(await text(page, '#way-kv')), 'no KV is moved');
    await fits(page);
    await contrast(page);
    await page.waitForTimeout(3000);
    await page.screenshot({ path: `${out}/${name}.png`, fullPage: true });
    noFaults(page);
    await page.context().close();
  });
}

await t('keyboard and screen reader: order, names, roles', async () => {
  const page = await open();
  const stops = [];
  for (let i = 0; i < 4; i++) {
    await page.keyboard.press('Tab');
    stops.push(await page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('role') || document.activeElement.tagName));
  }
  check(stops.slice(0, 3).join() === 'pause,region,events', stops.join());
  await page.locator('#pause').focus();
  await page.keyboard.press('Enter');
  check(await page.locator('#pause').getAttribute('aria-pressed') === 'true', 'not pressed');
  const before = await page.locator('#about').innerText();
  await page.waitForTimeout(2500);
  check(before === await page.locator('#about').innerText(), 'it goes on while it is paused');
  check(/^paused at/.test(await text(page, '#state')), await text(page, '#state'));
  await page.keyboard.press('Space');
  await page.waitForFunction(() => document.getElementById('state').textContent === 'live');
  check(await page.getByRole('img', { name: /Time to first token now: p50 / }).count() === 1, 'a chart has no name');
  check(await page.getByRole('article', { name: 'decode node decode-1' }).count() === 1, 'a node has no name');
  check(await page.getByRole('rowheader', { name: 'prefill-1' }).count() === 1, 'the table has no row header');
  check(await page.getByRole('log').count() === 1, 'no log');
  const levels = await page.evaluate(() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1]));
  check(levels.every((l, i) => i === 0 ? l === 1 : l <= levels[i - 1] + 1), 'headings skip a level: ' + levels.join());
  noFaults(page);
  await page.context().close();
});

await t('a node that falls silent is said to be gone, and back when it is', async () => {
  const page = await open();
  process.kill(+nodePid, 'SIGSTOP');
  try {
    await page.waitForFunction(() => document.querySelectorAll('.node.gone').length === 1, null, { timeout: 15000 });
    check(/gone \d+ s ago/.test(await text(page, '.node.gone .pill')), await text(page, '.node.gone .pill'));
    check(/is gone: it left, died or fell silent/.test(await text(page, '#events')), await text(page, '#events'));
    await page.screenshot({ path: `${out}/gone.png`, fullPage: true });
  } finally {
    process.kill(+nodePid, 'SIGCONT');
  }
  await page.waitForFunction(() => !document.querySelector('.node.gone') && document.querySelectorAll('.node').length === 3, null, { timeout: 20000 });
  check(/joined as a decode node/.test(await text(page, '#events')), await text(page, '#events'));
  noFaults(page);
  await page.context().close();
});

await t('a router that does not answer is said to be unreachable', async () => {
  const page = await open();
  await page.waitForFunction(() => document.getElementById('state').textContent === 'live');
  process.kill(+routerPid, 'SIGSTOP');
  try {
    await page.waitForFunction(() => document.getElementById('state').textContent === 'unreachable', null, { timeout: 15000 });
    check(/has not answered for .* What is shown is of \d\d:/.test(await text(page, '#notice')), await text(page, '#notice'));
    check(await page.locator('#live.stale').count() === 1, 'old figures look like new ones');
    await page.screenshot({ path: `${out}/unreachable.png`, fullPage: true });
  } finally {
    process.kill(+routerPid, 'SIGCONT');
  }
  await page.waitForFunction(() => /live|not ready/.test(document.getElementById('state').textContent), null, { timeout: 15000 });
  await page.waitForFunction(() => document.getElementById('state').textContent === 'live', null, { timeout: 20000 });
  check(await page.locator('#notice').isHidden(), 'the notice stays');
  check(/answers again/.test(await text(page, '#events')), 'no word of it');
  noFaults(page);
  await page.context().close();
});

// A reply of our own making.
const time = (a, b, c) => ({ n: 900, p50: a, p90: b, p99: c });
function node(host, domain, role, i, more) {
  return { name: `${role}-${i}`, role, tier: 'amx', state: 'ready', host, metrics: '', queued: role === 'prefill' ? 3 : 1, running: role === 'prefill' ? 4 : 27,
    slots: role === 'prefill' ? 256 : 64, pages_free: 900 - 17 * i, pages_total: 1600, pages_cached: 220, tokens: 1e6 * i, steps: 5e4, kv_bytes: 4e9,
    queued_tokens: 2200, hit_tokens: 123456, local_tokens: 10, preempted: 0, busy_ms: 1e6, domain, cores: 24, pid: i, silent_ms: 120,
    rates: role === 'prefill' ? { tokens_s: 5210 - 90 * i, steps_s: 21, kv_bytes_s: 6.1e8, busy: 0.93, mfu: 0.41, mbu: 0.06 }
      : { tokens_s: 412 + 5 * i, steps_s: 15.6, kv_bytes_s: 2.2e8, busy: 0.97, mfu: 0.03, mbu: 0.72 }, costs: {}, ...more };
}
function reply(nodes, more) {
  return { cluster: 'chat-prod', model: 'llama-3.1-8b-instruct-q4_k_m', nodes,
    router: { ready: true, queued: 7, running: 214, context: 131072, requests: 81234, finished: 80990, failed: 3, cancelled: 41, restarts: 2, nodes_lost: 1,
      prompt_tokens: 9.1e7, output_tokens: 2.4e7, cached_tokens: 3.3e7, uptime_s: 93784, version: '0.1.0', dead_ms: 1500, slo_ttft_ms: 500, slo_tpot_ms: 100,
      rates: { requests_s: 12.4, prompt_tokens_s: 14210, output_tokens_s: 3377, kv_bytes_s: 1.83e9 },
      percentiles: { window_s: 60, ttft_ms: time(311, 470, 902), tpot_ms: time(64.2, 71.9, 88.1), e2e_ms: time(8200, 16000, 31000) }, ...more } };
}
const large = () => reply(['xeon-01', 'xeon-02', 'altra-01'].flatMap((host, h) => [0, 1, 2, 3].map(d =>
  node(host, d, d === 0 ? 'prefill' : 'decode', d === 0 ? h + 1 : h * 3 + d, h === 2 ? { tier: 'neon-dotprod' } : h === 1 && d === 3 ? { state: 'draining' } : {}))));
for (const [name, options] of [['large-light', { colorScheme: 'light' }], ['large-dark', { colorScheme: 'dark' }],
  ['large-phone', { colorScheme: 'dark', viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true }]]) {
  await t(`${name}: three hosts of four domains`, async () => {
    const page = await open(options, large);
    await page.waitForTimeout(3500);
    check(await page.locator('.host').count() === 3 && await page.locator('.domain').count() === 12, 'not three hosts of four domains');
    await fits(page);
    await contrast(page);
    await page.screenshot({ path: `${out}/${name}.png`, fullPage: true });
    noFaults(page);
    await page.context().close();
  });
}

await t('what the cluster says is text', async () => {
  const evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
  const page = await open({}, () => ({ ...reply([node(evil, 0, 'decode', 1, { name: evil, tier: evil, state: evil })], { version: evil }), cluster: evil, model: evil }));
  await page.waitForTimeout(1500);
  check(await text(page, '#cluster') === evil, await text(page, '#cluster'));
  check(await page.locator('img').count() === 0, 'it became an element');
  check(await page.locator('script').count() === 1, 'it became a script');
  check((await page.title()).startsWith(evil), 'it ran');
  await fits(page);
  noFaults(page);
  await page.context().close();
});

await t('a router with API keys: the page asks for one', async () => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage(), faults = [];
  page.on('pageerror', e => faults.push(String(e)));
  const guard = r => r.request().headers().authorization === 'Bearer sk-right' ? r.continue() : r.fulfill({ status: 401, json: { error: {} } });
  await page.route('**/v1/cluster', guard);
  await page.route('**/tandem/history', guard);
  await page.goto(url + '/');
  await page.getByLabel('This router asks for an API key').fill('sk-wrong');
  await page.keyboard.press('Enter');
  await page.getByText('does not accept this API key').waitFor();
  await contrast(page);
  await page.screenshot({ path: `${out}/key.png` });
  await page.getByLabel('This router asks for an API key').fill('sk-right');
  await page.getByRole('button', { name: 'Look' }).click();
  await page.waitForFunction(() => document.getElementById('state').textContent === 'live');
  check(await page.locator('#ask').isHidden() && await page.locator('#notice').isHidden(), 'it asks on');
  check(faults.length === 0, faults.join('\n'));
  await context.close();
});

await browser.close();
process.exit(failed ? 1 : 0);
