// The heat map: `h` hides and shows it, the slider sets its opacity. Without script the switch works.
(() => {
  'use strict';
  const heat = document.getElementById('heat');
  if (!heat) return;
  const slider = document.getElementById('opacity');
  const faded = ['heat-layer', 'legend-ramp'].map((id) => document.getElementById(id));

  slider.addEventListener('input', () => {
    faded.forEach((element) => { element.style.opacity = slider.value / 100; });
    heat.checked = true;
  });
  document.addEventListener('keydown', (event) => {
    const busy = event.ctrlKey || event.metaKey || event.altKey || event.repeat;
    if (!busy && event.key.toLowerCase() === 'h') heat.checked = !heat.checked;
  });
})();
