// The reading room: send films as they are dropped, listen to what goes on.
(() => {
  'use strict';
  const AT_ONCE = 3;
  const drop = document.getElementById('drop');
  const input = document.getElementById('films');
  const live = document.getElementById('live');
  const link = document.getElementById('link');
  const sent = document.getElementById('sent');
  const list = document.getElementById('sent-list');
  const sum = document.getElementById('sent-sum');
  const mostBytes = drop.dataset.mostMb * 1024 * 1024;
  const queue = [];
  const films = [];
  let sending = 0;

  const say = (film, state, words, page) => {
    film.state = state;
    film.row.className = `is-${state}`;
    film.words.textContent = words;
    if (page) {
      const anchor = document.createElement('a');
      anchor.href = `/reports/${page}`;
      anchor.textContent = 'report';
      film.words.append(' ', anchor);
    }
    film.again.hidden = state !== 'refused';
    const count = (wanted) => films.filter((each) => wanted.includes(each.state)).length;
    const parts = [`${count(['ended'])} of ${films.length} done`];
    if (count(['refused'])) parts.push(`${count(['refused'])} not sent`);
    sum.textContent = parts.join(', ');
  };

  const add = (file) => {
    const row = document.createElement('li');
    const name = document.createElement('bdi');
    name.textContent = file.name;
    const words = document.createElement('span');
    const again = document.createElement('button');
    again.type = 'button';
    again.className = 'button';
    again.textContent = 'Send again';
    row.append(name, ' ', words, ' ', again);
    list.prepend(row);
    sent.hidden = false;
    const film = { file, row, words, again, state: 'waits', sha256: null };
    films.push(film);
    again.addEventListener('click', () => { put(film); next(); });
    put(film);
  };

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
        film.file = { name: film.file.name, size: film.file.size };
        say(film, 'received', 'received, waits for the worker');
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

  // Ask for those that were received and have no answer yet.
  const ask = async () => {
    const open = films.filter((film) => film.state === 'received').slice(0, 50);
    if (!open.length) return;
    const query = open.map((film) => `sha256=${film.sha256}`).join('&');
    const answer = await fetch(`/api/films?${query}`);
    if (!answer.ok) return;
    (await answer.json()).forEach(({ result }, index) => {
      if (!result) return;
      const failed = result.status === 'failed';
      const words = failed ? `could not be read: ${result.message}`
        : `${result.decision}${result.status === 'duplicate' ? ' (seen before)' : ''}`;
      say(open[index], 'ended', words, result.page);
    });
  };

  const walk = async (entry) => {
    if (entry.isFile) {
      add(await new Promise((done, wrong) => { entry.file(done, wrong); }));
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((done, wrong) => { reader.readEntries(done, wrong); });
        if (!some.length) return;
        for (const each of some) await walk(each);
      }
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
      .map((item) => item.webkitGetAsEntry() || item.getAsFile());
    for (const each of dropped) {
      if (each instanceof File) add(each); else await walk(each);
    }
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
    if (sending || queue.length) event.preventDefault();
  });

  const events = new EventSource('/api/events');
  events.addEventListener('now', (event) => {
    link.textContent = '';
    const focused = document.activeElement && live.contains(document.activeElement)
      ? document.activeElement.getAttribute('href') : null;
    live.innerHTML = event.data;
    if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    ask();
  });
  events.addEventListener('error', () => {
    link.textContent = 'The server does not answer; this page shows what was there last and tries again.';
  });
})();
