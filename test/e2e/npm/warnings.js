// Looks at a dashboard that nobody has to log in to, whose server stops to answer, goes on, and ends. Arguments: the
// browser, the URL of umbrad, its process, and what the page has to warn of.
'use strict';

const { chromium } = require('playwright-core');

const [browser, server, pid, warning] = process.argv.slice(2);

(async () => {
  const app = await chromium.launch({ executablePath: browser, chromiumSandbox: false, args: ['--disable-gpu', '--disable-background-networking'] });
  const page = await app.newPage();
  page.setDefaultTimeout(60000);
  await page.addInitScript(() => { // time goes by faster
    const { timeout } = AbortSignal;
    AbortSignal.timeout = (ms) => timeout.call(AbortSignal, ms / 2);
    const later = window.setTimeout;
    window.setTimeout = (what, ms) => later(what, ms / 2);
  });
  await page.goto(`${server}/dashboard/`);
  await page.locator('#warnings p:not(.mild)').filter({ hasText: warning }).waitFor();
  for (const where of ['things', 'changes']) {
    await page.goto(`${server}/dashboard/#/${where}`);
    await page.getByRole('paragraph').filter({ hasText: /No thing|Waiting/ }).waitFor();
    process.kill(Number(pid), 'SIGSTOP');
    await page.locator('#stream').filter({ hasText: 'may be old' }).waitFor();
    process.kill(Number(pid), 'SIGCONT');
    await page.locator('#stream').filter({ hasText: 'may be old' }).waitFor({ state: 'detached' });
  }
  process.kill(Number(pid));
  await page.locator('#stream').filter({ hasText: 'may be old' }).waitFor();
  await app.close();
})().catch((err) => { console.error(err); process.exit(1); });
