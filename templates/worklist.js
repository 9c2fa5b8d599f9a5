// Filter and sort the rows of this page, and mark what is new. Files that could not be read always stay.
(() => {
  'use strict';
  const table = document.querySelector('.films');
  const find = document.getElementById('find');
  if (!table || !find) return;
  const pressed = (button) => button?.getAttribute('aria-pressed') === 'true';
  const shown = document.getElementById('shown');
  const whole = shown.textContent;
  const chips = [...document.querySelectorAll('.chip[data-group]')];
  const only = { new: document.getElementById('only-new'), unreviewed: document.getElementById('only-unreviewed') };
  const bodies = [...table.tBodies];
  const rows = [...table.querySelectorAll('tr[data-group]')].map((row, place) => {
    const cell = (name) => row.querySelector(`.${name}`);
    const { score } = cell('score').dataset;
    return {
      row, place, home: row.parentElement, group: row.dataset.group, what: cell('what'),
      // Scores are left out: who types 12 does not mean 0.127.
      text: ['what', 'name', 'when'].map((name) => cell(name).textContent).join(' ').toLowerCase(),
      score: score === undefined ? null : Number(score),
      file: cell('name').querySelector('bdi').textContent.toLowerCase(),
      at: Date.parse(cell('when').querySelector('time').dateTime),
      run: Number(cell('run').dataset.run),
      number: Number(cell('name').dataset.file),
      reviewed: Boolean(row.querySelector('.verdict')),
      fresh: false,
    };
  });

  // Filters
  const apply = () => {
    const runs = [];
    const typed = find.value.toLowerCase().replace(/\brun\s+(\d+)\b/g, (_, run) => {
      runs.push(Number(run));
      return ' ';
    });
    const words = typed.split(/\s+/).filter(Boolean);
    const groups = new Set(chips.filter(pressed).map((chip) => chip.dataset.group));
    const wanted = (each) => (!chips.length || groups.has(each.group))
      && (!pressed(only.new) || each.fresh)
      && (!pressed(only.unreviewed) || !each.reviewed)
      && runs.every((run) => each.run === run)
      && words.every((word) => each.text.includes(word));
    let count = 0;
    const inBody = new Map(bodies.map((body) => [body, { all: 0, left: 0 }]));
    for (const each of rows) {
      each.row.hidden = each.group !== 'failed' && !wanted(each);
      const sum = inBody.get(each.home);
      sum.all += 1;
      sum.left += !each.row.hidden;
      count += !each.row.hidden;
    }
    for (const [body, { all, left }] of inBody) {
      body.hidden = left === 0 || sorted.isConnected;
      const said = body.querySelector('.shown');
      if (said) said.textContent = left < all ? `${left} of ${all} shown · ` : '';
    }
    const failed = rows.some(({ group }) => group === 'failed');
    shown.textContent = count === rows.length ? whole
      : `${count} of the ${rows.length} rows on this page${failed ? '; unreadable files always stay' : ''}`;
  };

  // Sorting: groups dissolve into one list, since each row names its own decision.
  const sorted = document.createElement('tbody');
  const order = document.getElementById('order');
  const heads = [...table.querySelectorAll('th[data-sort]')];
  const first = { score: 'descending', file: 'ascending', at: 'descending', run: 'descending' };
  const other = { ascending: 'descending', descending: 'ascending' };
  const names = {
    score: { descending: 'by score, highest first', ascending: 'by score, lowest first' },
    file: { descending: 'by file name, Z to A', ascending: 'by file name, A to Z' },
    at: { descending: 'by time, newest first', ascending: 'by time, oldest first' },
    run: { descending: 'by run, newest first', ascending: 'by run, oldest first' },
  };
  const compare = new Intl.Collator('en', { numeric: true }).compare;

  const restore = () => {
    for (const each of rows) each.home.append(each.row);
    sorted.remove();
    for (const head of heads) head.removeAttribute('aria-sort');
    order.hidden = true;
    apply();
  };
  const sort = (key, direction) => {
    const sign = direction === 'ascending' ? 1 : -1;
    const between = (a, b) => {
      if (a[key] === null || b[key] === null) return (a[key] === null) - (b[key] === null);
      return sign * (key === 'file' ? compare(a.file, b.file) : a[key] - b[key]);
    };
    sorted.append(...[...rows].sort((a, b) => between(a, b) || a.place - b.place).map(({ row }) => row));
    table.append(sorted);
    for (const head of heads) {
      if (head.dataset.sort === key) head.setAttribute('aria-sort', direction);
      else head.removeAttribute('aria-sort');
    }
    const without = key === 'score' ? rows.filter(({ score }) => score === null).length : 0;
    order.firstElementChild.textContent = `The rows of this page ${names[key][direction]}`
      + `${without ? `; the ${without} without a score stand last` : ''}.`;
    order.hidden = false;
    apply();
  };
  for (const head of heads) {
    const key = head.dataset.sort;
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = head.textContent;
    button.title = 'Sort the rows of this page; the third time restores their order';
    head.replaceChildren(button);
    button.addEventListener('click', () => {
      const now = head.getAttribute('aria-sort');
      if (!now) sort(key, first[key]);
      else if (now === first[key]) sort(key, other[now]);
      else restore();
    });
  }
  order.querySelector('button').addEventListener('click', () => {
    restore();
    find.focus();
  });
  for (const tile of document.querySelectorAll('.tiles a, .notice a')) tile.addEventListener('click', restore);

  // New since the last look: what came after the reader last said that all was seen. The first
  // visit counts as such. The mark moves by the button alone, so a reload loses nothing.
  const place = `screen-seen:${location.pathname.replace(/[^/]*$/, '')}`;
  const newest = (element) => ({
    at: Date.parse(element.dataset.newestAt), number: Number(element.dataset.newestFile),
  });
  const remember = () => {
    localStorage.setItem(place, JSON.stringify({ ...newest(table), said: table.dataset.asOf }));
  };
  const mark = (seen) => {
    // A clock may jump and a file may end long after it came: either tells a newer one.
    const isNew = ({ at, number }) => at > seen.at || number > seen.number;
    const news = document.getElementById('news');
    let count = 0;
    for (const each of rows) {
      each.fresh = isNew(each);
      if (each.fresh) {
        count += 1;
        each.what.insertAdjacentHTML('beforeend', ' <b class="badge">new</b>');
      }
    }
    const links = [...document.querySelectorAll('.pager a')].filter((link) => isNew(newest(link)));
    for (const link of links) link.insertAdjacentHTML('beforeend', ' <b class="badge">new</b>');
    const here = links.length || document.querySelector('.pager') ? ' on this page' : '';
    news.hidden = !count && !links.length;
    only.new.hidden = !count;
    news.querySelector('b').textContent = `${count || 'Nothing'} new${here} since ${seen.said}${links.length ? '; other pages have news' : ''}.`;
    news.querySelector('button').addEventListener('click', () => {
      remember();
      for (const badge of document.querySelectorAll('.badge')) badge.remove();
      for (const each of rows) each.fresh = false;
      only.new.setAttribute('aria-pressed', 'false');
      only.new.hidden = news.hidden = true;
      apply();
      find.focus();
    });
  };
  const look = () => {
    let seen = null;
    try {
      seen = JSON.parse(localStorage.getItem(place));
      if (!seen) remember();
    } catch { return; } // storage is not allowed, or holds something else: nothing is marked
    if (Number.isFinite(seen?.at) && Number.isFinite(seen.number)) mark(seen);
  };
  if (table.dataset.newestAt) look();

  find.addEventListener('input', apply);
  for (const chip of [...chips, only.new, only.unreviewed].filter(Boolean)) {
    chip.addEventListener('click', () => {
      chip.setAttribute('aria-pressed', !pressed(chip));
      apply();
    });
  }
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && document.activeElement !== find) {
      event.preventDefault();
      find.focus();
    }
    if (event.key === 'Escape' && document.activeElement === find) {
      find.value = '';
      apply();
    }
  });
})();
