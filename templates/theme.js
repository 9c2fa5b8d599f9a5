// Dark unless the reader chose otherwise; the choice is kept where storage is allowed.
(() => {
  'use strict';
  const root = document.documentElement;
  const system = window.matchMedia('(prefers-color-scheme: light)');
  const names = { dark: 'Dark', light: 'Light', auto: 'System' };
  const order = Object.keys(names);
  let choice = 'dark';
  try { choice = localStorage.getItem('screen-theme') || choice; } catch { /* not allowed: dark */ }
  if (!order.includes(choice)) choice = 'dark';

  const apply = () => {
    const light = choice === 'light' || (choice === 'auto' && system.matches);
    root.dataset.theme = light ? 'light' : 'dark';
  };
  root.classList.add('js');
  apply();
  system.addEventListener('change', apply);

  document.addEventListener('DOMContentLoaded', () => {
    const button = document.getElementById('theme');
    const label = () => {
      button.textContent = names[choice];
      button.setAttribute('aria-label', `Colours: ${names[choice]}. Change`);
    };
    label();
    button.addEventListener('click', () => {
      choice = order[(order.indexOf(choice) + 1) % order.length];
      try { localStorage.setItem('screen-theme', choice); } catch { /* only for this page, then */ }
      apply();
      label();
    });
  });
})();
