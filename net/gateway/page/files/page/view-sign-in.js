// Asks for a token.

import { h, replace } from './dom.js';

const reasons = {
  'token-expired': 'The token has expired.',
  'token-revoked': 'The token was revoked.',
  unauthenticated: 'The node does not take this token.',
};

export function signInView({ why, onToken }) {
  const problem = h('p', { class: 'problem', role: 'alert', id: 'token-problem' });
  const input = h('input', {
    id: 'token', name: 'token', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'token-help token-problem',
  });
  const button = h('button', { class: 'primary' }, 'Sign in');
  const explain = (error) => replace(problem, error ? reasons[error.code] ?? `It did not work: ${error.message}` : '');
  explain(why);
  const submit = async (e) => {
    e.preventDefault();
    button.disabled = true;
    explain();
    try {
      await onToken(input.value.trim());
    } catch (error) {
      explain(error);
      button.disabled = false;
      input.focus();
    }
  };
  const node = h('section', { class: 'card narrow' },
    h('h1', {}, 'Sign in'),
    h('form', { onsubmit: submit },
      h('label', { for: 'token' }, 'Access token'),
      input,
      h('p', { class: 'hint', id: 'token-help' }, 'Made on the node by ', h('code', {}, 'anabranch token create'), '. It stays in this tab, and goes when the tab is closed.'),
      problem,
      button));
  return { node, isSignIn: true, shown: () => input.focus() };
}
