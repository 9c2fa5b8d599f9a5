// The film's page: mouse, fingers, keys and buttons. Without script, switch and layout work.
(() => {
  'use strict';
  const { now, stage, show, reset, place, step, zoom } = viewer;
  const ZOOM_STEP = 1.25;
  const WHEEL_STEP = 1.002; // for each pixel that the page would scroll
  const LINE = 33; // pixels, where a browser counts in lines
  const WINDOW_STEP = 8; // grey levels, by keys
  const LAYOUT = 'screen-layout'; // the reader's, for the next film too; nothing else is kept
  const PAN_STEP = 60; // pixels of the screen, by keys
  const by = (id) => document.getElementById(id);
  const move = (right, down) => show({ x: now.x + right * step(), y: now.y + down * step() });
  const widen = (width, centre) => show({ width: now.width + width, centre: now.centre + centre });
  const invert = () => show({ inverted: !now.inverted });

  // Heat map and layout
  const heat = by('heat');
  const toggleHeat = () => { if (heat) heat.checked = !heat.checked; };
  const toggleLayout = () => { if (heat) by(by('beside').checked ? 'blended' : 'beside').click(); };
  const fade = () => ['heat-layer', 'legend-ramp'].forEach((id) => {
    by(id).style.opacity = by('opacity').value / 100;
  });
  if (heat) {
    by('opacity').addEventListener('input', () => { fade(); heat.checked = true; });
    fade(); // browsers keep what inputs held before a page was loaded again
    ['blended', 'beside'].forEach((id) => by(id).addEventListener('change', () => {
      try { localStorage.setItem(LAYOUT, id); } catch { /* not allowed: only for this film, then */ }
    }));
    let layout = 'blended';
    try { if (localStorage.getItem(LAYOUT) === 'beside') layout = 'beside'; } catch { /* not allowed */ }
    by(layout).checked = true;
  }

  // Buttons and sliders
  by('centre').addEventListener('input', (event) => show({ centre: +event.target.value }));
  by('width').addEventListener('input', (event) => show({ width: +event.target.value }));
  by('invert').addEventListener('click', invert);
  by('reset').addEventListener('click', reset);
  by('zoom-in').addEventListener('click', () => zoom(ZOOM_STEP));
  by('zoom-out').addEventListener('click', () => zoom(1 / ZOOM_STEP));
  stage.addEventListener('dblclick', reset);

  // Mouse and fingers: the left button does what is chosen, the right one the other; one finger
  // pans and two zoom, so that a page scrolled by touch changes no window.
  const fingers = new Map();
  let pans = false;
  const apart = () => {
    const [one, two] = [...fingers.values()];
    return Math.hypot(one.clientX - two.clientX, one.clientY - two.clientY);
  };
  const pinch = (event) => {
    const before = apart();
    fingers.set(event.pointerId, event);
    zoom(apart() / before, place(event));
  };
  const drag = (event) => {
    const before = fingers.get(event.pointerId);
    const right = event.clientX - before.clientX;
    const down = event.clientY - before.clientY;
    fingers.set(event.pointerId, event);
    if (pans) move(-right, -down);
    else widen(right, down);
  };
  stage.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 && event.button !== 2) return;
    fingers.set(event.pointerId, event);
    pans = event.pointerType === 'touch' || by('tool-pan').checked !== (event.button === 2);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener('pointermove', (event) => {
    if (!fingers.has(event.pointerId)) return;
    if (fingers.size === 2) pinch(event);
    else drag(event);
  });
  ['pointerup', 'pointercancel'].forEach((name) => {
    stage.addEventListener(name, (event) => fingers.delete(event.pointerId));
  });
  stage.addEventListener('contextmenu', (event) => event.preventDefault());
  stage.addEventListener('wheel', (event) => {
    if (event.ctrlKey || (event.deltaY > 0 && now.zoom === 1)) return; // the browser's own: zoom, scroll
    event.preventDefault();
    zoom(WHEEL_STEP ** -(event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1)), place(event));
  }, { passive: false });

  // Keys
  const once = {
    h: toggleHeat,
    s: toggleLayout,
    i: invert,
    r: reset,
    0: reset,
    w: () => { by('tool-window').checked = true; },
    p: () => { by('tool-pan').checked = true; },
    '?': () => { by('shortcuts').open = !by('shortcuts').open; },
  };
  const held = {
    '+': () => zoom(ZOOM_STEP),
    '=': () => zoom(ZOOM_STEP),
    '-': () => zoom(1 / ZOOM_STEP),
  };
  const arrows = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  };
  const TYPED = 'input:not([type=checkbox], [type=radio], [type=range]), textarea, select, [contenteditable]';
  const byArrow = (event) => {
    const [right, down] = arrows[event.key];
    if (event.target.closest('input') || (!event.shiftKey && now.zoom === 1)) return false;
    if (event.shiftKey) widen(right * WINDOW_STEP, down * WINDOW_STEP);
    else move(right * PAN_STEP, down * PAN_STEP);
    return true;
  };
  const answered = (event) => {
    if (event.key in arrows) return byArrow(event);
    const action = held[event.key] || (event.repeat ? undefined : once[event.key.toLowerCase()]);
    if (action) action();
    return Boolean(action);
  };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPED)) return;
    if (answered(event)) event.preventDefault();
  });
  show({});
})();
