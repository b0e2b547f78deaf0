"""The shop of guide 002: a front that joins what two services behind it know.

``python -m sample_app.shop front``, ``product`` or ``coupon``: ../README.md says what each answers.
"""
