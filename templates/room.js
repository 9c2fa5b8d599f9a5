// The reading room: send films as they are dropped, listen to what goes on.
(() => {
  'use strict';
  const AT_ONCE = 3;
  const ASKED = 50; // films in one question
  const ASK_EVERY_MS = 1500;
  const LISTEN_AGAIN_MS = 5000;
  const WAIT_MS = 30000; // for an answer
  const AWAY = 'The server does not answer; this page shows what was there last and tries again.';
  const DEAF = 'What goes on cannot be followed just now; this page shows what was there last and tries again.';
  const drop = document.getElementById('drop');
  const input = document.getElementById('films');
  const live = document.getElementById('live');
  const link = document.getElementById('link');
  const sent = document.getElementById('sent');
  const list = document.getElementById('sent-list');
  const sum = document.getElementById('sent-sum');
  const mostBytes = drop.dataset.mostMb * 1024 * 1024;
  const queue = [];
  const open = new Set(); // received, without an answer yet
  const counts = { waits: 0, sending: 0, received: 0, ended: 0, refused: 0 };
  const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });
  let films = 0;
  let sending = 0;
  let walking = 0;
  let asking = false;

  const say = (film, state, words, page) => {
    film.words.textContent = words;
    if (page) {
      const anchor = document.createElement('a');
      anchor.href = `/reports/${page}`;
      anchor.textContent = 'report';
      film.words.append(' ', anchor);
    }
    if (film.state === state) return;
    if (film.state) counts[film.state] -= 1;
    counts[state] += 1;
    film.state = state;
    film.row.className = `is-${state}`;
    film.again.hidden = state !== 'refused' || !film.file;
    const lost = counts.refused ? `, ${counts.refused} not sent` : '';
    sum.textContent = `${counts.ended} of ${films} done${lost}`;
  };

  const begin = (called, file) => {
    const row = document.createElement('li');
    const name = document.createElement('bdi');
    name.textContent = called;
    const words = document.createElement('span');
    const again = document.createElement('button');
    again.type = 'button';
    again.className = 'button';
    again.textContent = 'Send again';
    row.append(name, ' ', words, ' ', again);
    list.prepend(row);
    sent.hidden = false;
    films += 1;
    const film = { file, row, words, again, state: null, sha256: null, after: 0 };
    again.addEventListener('click', () => { put(film); next(); });
    return film;
  };
  const add = (file) => put(begin(file.name, file));

  const put = (film) => {
    if (film.file.size > mostBytes) {
      say(film, 'refused', `not sent: larger than ${drop.dataset.mostMb} MiB`);
      return;
    }
    say(film, 'waits', 'waits to be sent');
    queue.push(film);
  };

  const next = () => {
    while (sending < AT_ONCE && queue.length) {
      sending += 1;
      send(queue.shift());
    }
  };

  const send = (film) => {
    const request = new XMLHttpRequest();
    request.open('POST', `/api/films?name=${encodeURIComponent(film.file.name.slice(-1000))}`);
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.upload.addEventListener('progress', (event) => {
      if (event.lengthComputable) say(film, 'sending', `${Math.floor(100 * event.loaded / event.total)}% sent`);
    });
    request.addEventListener('loadend', () => {
      sending -= 1;
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* no answer at all */ }
      if (request.status === 201) {
        film.sha256 = answer.sha256;
        film.after = answer.after ?? 0;
        film.file = { name: film.file.name, size: film.file.size };
        say(film, 'received', 'received, waits for the worker');
        open.add(film);
        if (!asking) ask();
      } else if (request.status === 429) {
        say(film, 'waits', 'waits: too many a minute');
        setTimeout(() => { queue.push(film); next(); }, 10000);
      } else {
        say(film, 'refused', `not sent: ${answer.message || 'the server does not answer'}`);
      }
      next();
    });
    say(film, 'sending', '0% sent');
    request.send(film.file);
  };

  // Ask for those that were received and have no answer yet, as long as there are any.
  const ask = async () => {
    asking = true;
    await pause(ASK_EVERY_MS);
    const wanted = [...open];
    try {
      for (let start = 0; start < wanted.length; start += ASKED) await askFor(wanted.slice(start, start + ASKED));
    } catch { /* the server is away: those left are asked for again */ }
    asking = false;
    if (open.size) ask();
  };
  const askFor = async (some) => {
    const query = some.map((film) => `sha256=${film.sha256}&after=${film.after}`).join('&');
    const answer = await fetch(`/api/films?${query}`, { signal: AbortSignal.timeout(WAIT_MS) });
    if (answer.status === 401) comeIn();
    if (!answer.ok) throw new Error(answer.statusText);
    if (link.querySelector('a')) tell('');
    (await answer.json()).forEach(({ result }, index) => {
      if (!result) return;
      const failed = result.status === 'failed';
      const words = failed ? `could not be read: ${result.message}`
        : `${result.decision}${result.status === 'duplicate' ? ' (seen before)' : ''}`;
      open.delete(some[index]);
      say(some[index], 'ended', words, result.page);
    });
  };

  // What cannot be read is said, and holds nothing else up.
  const walk = async (entry) => {
    try {
      if (entry.isFile) {
        add(await new Promise((done, wrong) => { entry.file(done, wrong); }));
        return;
      }
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, wrong) => { reader.readEntries(done, wrong); });
        if (!some.length) return;
        for (const each of some) await walk(each);
      }
    } catch {
      say(begin(entry.name, null), 'refused', 'not sent: could not be read');
    } finally {
      next();
    }
  };

  const over = (event) => {
    if (![...event.dataTransfer.types].includes('Files')) return;
    event.preventDefault();
    document.body.classList.add('dropping');
  };
  window.addEventListener('dragenter', over);
  window.addEventListener('dragover', over);
  window.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  window.addEventListener('drop', async (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    // All at once: what was dropped is gone when this function first waits.
    const dropped = [...event.dataTransfer.items].filter((item) => item.kind === 'file')
      .map((item) => item.webkitGetAsEntry() || item.getAsFile()).filter(Boolean);
    walking += 1;
    for (const each of dropped) {
      if (each instanceof File) add(each); else await walk(each);
    }
    walking -= 1;
    next();
  });
  const chosen = () => {
    [...input.files].forEach(add);
    input.value = '';
    next();
  };
  input.addEventListener('change', chosen);
  drop.addEventListener('submit', (event) => { event.preventDefault(); if (input.files.length) chosen(); else input.click(); });
  window.addEventListener('beforeunload', (event) => {
    if (walking || counts.waits || counts.sending) event.preventDefault();
  });

  // Parts of the page that changed are replaced, but not under a pointer or within a selection.
  let seen = '';
  let held = false;
  const show = () => {
    if (held || !seen) return;
    const fresh = document.createElement('template');
    fresh.innerHTML = seen;
    if (fresh.content.childElementCount !== live.childElementCount) { // the server is a newer one
      live.replaceChildren(fresh.content);
      return;
    }
    const selection = document.getSelection();
    const chosen = selection.isCollapsed ? null : selection.getRangeAt(0);
    [...fresh.content.children].forEach((part, index) => {
      const old = live.children[index];
      if (old.isEqualNode(part) || chosen?.intersectsNode(old)) return;
      const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
      old.replaceWith(part);
      if (focused) part.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    });
  };
  const release = () => {
    if (!held) return;
    held = false;
    setTimeout(show); // after the click
  };
  live.addEventListener('pointerdown', () => { held = true; });
  for (const kind of ['pointerup', 'pointercancel', 'blur']) window.addEventListener(kind, release);
  document.addEventListener('selectionchange', () => { if (document.getSelection().isCollapsed) show(); });

  const tell = (words) => { if (link.textContent !== words) link.textContent = words; };
  const comeIn = () => {
    if (link.querySelector('a')) return;
    const anchor = document.createElement('a');
    anchor.href = '/login?next=/';
    if (films) anchor.target = '_blank'; // what was sent from here stays in sight
    anchor.textContent = 'Log in again';
    link.replaceChildren('You are no longer logged in; this page shows what was there last. ', anchor);
  };

  // A browser tries again by itself when a connection breaks, but not after an answer other than 200.
  const listen = () => {
    const events = new EventSource('/api/events');
    events.addEventListener('open', () => tell(''));
    events.addEventListener('now', (event) => {
      seen = event.data;
      show();
    });
    events.addEventListener('error', async () => {
      if (events.readyState !== EventSource.CLOSED) {
        tell(AWAY);
        return;
      }
      const answer = await fetch('/api/status', { signal: AbortSignal.timeout(WAIT_MS) }).catch(() => null);
      if (answer?.status === 401) comeIn(); else tell(answer?.ok ? DEAF : AWAY);
      await pause(LISTEN_AGAIN_MS);
      listen();
    });
  };
  listen();
})();
