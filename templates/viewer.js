// What the viewer shows: window, polarity, zoom and place, the same in both panes. Only the film's
// own layer is changed, never the heat map. The window is DICOM's linear one (PS3.3 C.11.2.1.2.1)
// on the stored 8-bit picture: level 128 and width 256 leave it as it is.
const viewer = (() => {
  'use strict';
  const MOST_ZOOM = 16;
  const USUAL = { centre: 128, width: 256, inverted: false, zoom: 1, x: 0, y: 0 };
  const by = (id) => document.getElementById(id);
  const stage = by('stage');
  const panes = [...stage.querySelectorAll('svg')];
  const layers = [...stage.querySelectorAll('.film-layer')];
  const ramps = [...stage.querySelectorAll('feComponentTransfer > *')];
  const { width: columns, height: rows } = panes.at(-1).viewBox.baseVal;
  const now = { ...USUAL };

  const within = (value, least, most) => Math.min(Math.max(value, least), most);
  const under = (pane, x, y) => {
    const { left, right, top, bottom } = pane.getBoundingClientRect();
    return left <= x && x < right && top <= y && y < bottom;
  };
  const windowed = () => now.centre !== USUAL.centre || now.width !== USUAL.width;

  const drawFilm = () => {
    const slope = 255 / (now.width - 1);
    const intercept = 0.5 - (now.centre - 0.5) / (now.width - 1);
    ramps.forEach((ramp) => {
      ramp.setAttribute('slope', now.inverted ? -slope : slope);
      ramp.setAttribute('intercept', now.inverted ? 1 - intercept : intercept);
    });
    const changed = now.inverted || windowed();
    layers.forEach((layer) => {
      if (changed) layer.setAttribute('filter', 'url(#window)');
      else layer.removeAttribute('filter');
    });
  };

  const drawPlace = () => {
    const box = `${now.x} ${now.y} ${columns / now.zoom} ${rows / now.zoom}`;
    panes.forEach((pane) => pane.setAttribute('viewBox', box));
    stage.classList.toggle('is-zoomed', now.zoom > 1);
  };

  const say = () => {
    by('inverted').hidden = !now.inverted;
    by('windowed').textContent = `W ${Math.round(now.width)} L ${Math.round(now.centre)}`;
    by('windowed').classList.toggle('is-changed', windowed());
    by('zoomed').textContent = `${now.zoom.toFixed(1)}×`;
    by('zoomed').classList.toggle('is-changed', now.zoom > 1);
    by('state').classList.toggle('is-changed', now.inverted || windowed() || now.zoom > 1);
    by('centre').value = now.centre;
    by('width').value = now.width;
    by('invert').setAttribute('aria-pressed', now.inverted);
  };

  const show = (changes) => {
    Object.assign(now, changes);
    now.centre = within(now.centre, 0, 255);
    now.width = within(now.width, 2, 512);
    now.zoom = within(now.zoom, 1, MOST_ZOOM);
    now.x = within(now.x, 0, columns - columns / now.zoom);
    now.y = within(now.y, 0, rows - rows / now.zoom);
    drawFilm();
    drawPlace();
    say();
  };

  return {
    now,
    stage,
    show,
    reset: () => show(USUAL),
    // A point of the screen as a point of the film, as the pane under it shows it.
    place: ({ clientX, clientY }) => {
      const pane = panes.find((each) => under(each, clientX, clientY)) || panes.at(-1);
      return new DOMPoint(clientX, clientY).matrixTransform(pane.getScreenCTM().inverse());
    },
    // Pixels of the film to one of the screen.
    step: () => 1 / panes.at(-1).getScreenCTM().a,
    // Zoom by a factor; what lies at the point stays there.
    zoom: (factor, at = new DOMPoint(now.x + columns / now.zoom / 2, now.y + rows / now.zoom / 2)) => {
      const zoom = within(now.zoom * factor, 1, MOST_ZOOM);
      const shrunk = now.zoom / zoom;
      show({ zoom, x: at.x - (at.x - now.x) * shrunk, y: at.y - (at.y - now.y) * shrunk });
    },
  };
})();
