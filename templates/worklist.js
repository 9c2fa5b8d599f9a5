// Filter the rows of this page by text and decision. Files that could not be read always stay.
(() => {
  'use strict';
  const find = document.getElementById('find');
  if (!find) return;
  const chips = [...document.querySelectorAll('.chip')];
  const shown = document.getElementById('shown');
  const whole = shown.textContent;
  const bodies = [...document.querySelectorAll('.films tbody')];
  const rows = [...document.querySelectorAll('.films tr[data-group]')]
    .map((row) => ({ row, group: row.dataset.group, text: row.textContent.toLowerCase() }));

  const apply = () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = new Set(chips.filter((chip) => chip.getAttribute('aria-pressed') === 'true')
      .map((chip) => chip.dataset.group));
    let count = 0;
    for (const { row, group, text } of rows) {
      const keep = group === 'failed'
        || (groups.has(group) && wanted.every((word) => text.includes(word)));
      row.hidden = !keep;
      count += keep;
    }
    for (const body of bodies) body.hidden = !body.querySelector('tr[data-group]:not([hidden])');
    const failed = rows.some(({ group }) => group === 'failed');
    shown.textContent = count === rows.length ? whole
      : `${count} of the ${rows.length} rows on this page${failed ? '; unreadable files always stay' : ''}`;
  };

  find.addEventListener('input', apply);
  chips.forEach((chip) => chip.addEventListener('click', () => {
    chip.setAttribute('aria-pressed', chip.getAttribute('aria-pressed') !== 'true');
    apply();
  }));
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
