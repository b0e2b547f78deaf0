"""From a recording to a verdict, without clock or IO, so that any run can be judged again.

`slo` is what was promised. The recording is cut into each `phase` and searched for any `outage`;
`interval` says how much its counts prove, `suspect` what of them does not stand, `ailing` what did
not work before. That together is the `evidence`: each `promise` asks it what is broken, and each
rule of `vacuity` what is unproved. `verdict` is what they find, beside what the deploy took of
`capacity`, and `summary` is that in a few lines.
"""
